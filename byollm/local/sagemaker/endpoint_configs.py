"""Endpoint configurations: which models, on how many instances, with which share of the requests."""

from byollm.local.protocol import Members
from byollm.local.sagemaker.collection import Collection
from byollm.local.sagemaker.faults import invalid, not_emulated

NOT_EMULATED = ("AsyncInferenceConfig", "DataCaptureConfig", "ExplainerConfig")
NOT_EMULATED_OF_VARIANTS = (
    *("ServerlessConfig", "InstancePools", "AcceleratorType", "CoreDumpConfig", "CapacityReservationConfig"),
)


class EndpointConfigs:
    """CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs, DeleteEndpointConfig."""

    def __init__(self, configs: Collection, models: Collection) -> None:
        self._configs, self._models = configs, models

    async def create_endpoint_config(self, given: Members) -> Members:
        """CreateEndpointConfig."""
        _refuse(given, NOT_EMULATED)
        production, shadow = given["ProductionVariants"], given.get("ShadowProductionVariants", [])
        if shadow and (len(production), len(shadow)) != (1, 1):
            raise invalid("A shadow variant stands beside exactly one production variant.")
        variants = [*production, *shadow]
        names = [variant["VariantName"] for variant in variants]
        if len(set(names)) < len(names):
            raise invalid(f"Variant names must be unique: {', '.join(names)}")
        if len({"ModelName" in variant for variant in variants}) > 1:
            raise invalid("Either every variant has a ModelName, or none, for inference components.")
        for variant in variants:
            self._check(variant, given)
        return {"EndpointConfigArn": self._configs.add(given)["EndpointConfigArn"]}

    async def describe_endpoint_config(self, given: Members) -> Members:
        """DescribeEndpointConfig."""
        return self._configs.get(given["EndpointConfigName"])

    async def list_endpoint_configs(self, given: Members) -> Members:
        """ListEndpointConfigs."""
        return self._configs.page(given, ())

    async def delete_endpoint_config(self, given: Members) -> None:
        """DeleteEndpointConfig; endpoints made from it go on, as in AWS."""
        self._configs.remove(given["EndpointConfigName"])

    def _check(self, variant: Members, config: Members) -> None:
        _refuse(variant, NOT_EMULATED_OF_VARIANTS)
        if "InstanceType" not in variant:
            raise invalid(f"Variant {variant['VariantName']} needs an InstanceType.")
        if variant.get("RoutingConfig", {}).get("RoutingStrategy") == "PREFIX_AWARE":
            raise not_emulated("PREFIX_AWARE routing")
        if "ModelName" in variant:
            self._models.get(variant["ModelName"])
            if "InitialInstanceCount" not in variant:
                raise invalid(f"Variant {variant['VariantName']} needs an InitialInstanceCount.")
        elif "ExecutionRoleArn" not in config:
            raise invalid("ExecutionRoleArn is required for variants that host inference components.")


def _refuse(given: Members, members: tuple[str, ...]) -> None:
    for member in members:
        if member in given:
            raise not_emulated(member)
