"""What SageMaker should hold: requests of its API, worked out from the specification and what to serve.

Nothing here calls AWS. Models and endpoint configurations are named by their content, so that making one
twice makes it once, and what is named otherwise is old.
"""

from collections.abc import Iterator
from typing import Any

from byollm.lifecycle.artefact import Artefact, Artefacts
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.errors import LifecycleError
from byollm.settings.endpoint import VariantSpec
from byollm.settings.instances import INSTANCE_TYPES

Request = dict[str, Any]

CHANGING = ("InitialInstanceCount", "InitialVariantWeight")
"""What an endpoint is born with and changes while it runs: no reason for a new configuration."""

MORE_THAN_HALF = 0.55
"""Of an instance's memory, reserved for a copy: a second has no place beside it. It may use the rest too."""


class Wanted:
    """The requests that make one endpoint.

    Args:
        deployment: the declared endpoint.
        artefacts: what each variant serves; a variant that has nothing to serve yet is left out.

    Raises:
        LifecycleError: nothing would answer requests.
    """

    def __init__(self, deployment: Deployment, artefacts: Artefacts) -> None:
        self._deployment, self.spec = deployment, deployment.spec
        self.instance = INSTANCE_TYPES[self.spec.instance_type]
        unknown = set(artefacts) - {variant.name for variant in self.spec.variants}
        if unknown:
            raise LifecycleError(
                f"{deployment.name} has no variant {', '.join(sorted(unknown))}. "
                "Add it to endpoint.variants, or publish the version for one that is there"
            )
        self.variants = [variant for variant in self.spec.variants if variant.name in artefacts]
        self.answering = [variant for variant in self.variants if not variant.shadow]
        if not any(variant.weight for variant in self.answering):
            raise LifecycleError(
                f"{deployment.name}: none of the variants that answer requests has a version to serve. "
                "Publish one: `byollm publish`"
            )
        self.models: dict[str, Request] = {}
        self._model_of: dict[str, str] = {}
        for variant in self.variants:
            request = self._model(artefacts[variant.name])
            name = deployment.named(request)
            self.models[name] = request
            self._model_of[variant.name] = name
        self.config = self._config()
        self.weights = {variant.name: variant.weight for variant in self.variants}

    @property
    def component(self) -> Request | None:
        """The inference component; None where variants carry the model."""
        if self.spec.hosting == "variant":
            return None
        return {
            "InferenceComponentName": self._deployment.component,
            "EndpointName": self._deployment.name,
            "VariantName": self.variants[0].name,
            "Specification": self.specification,
            # One at first even where zero will do: a version that never ran was never tried.
            "RuntimeConfig": {"CopyCount": max(1, self.spec.scaling.minimum)},
        }

    @property
    def specification(self) -> Request:
        """Of the component: one copy fills one instance, so copies are counted as instances are."""
        fills: Request = {"MinMemoryRequiredInMb": int(self.instance.memory_gib * 1024 * MORE_THAN_HALF)}
        if self.instance.gpus:
            fills["NumberOfAcceleratorDevicesRequired"] = self.instance.gpus
        else:
            fills["NumberOfCpuCoresRequired"] = 1  # SageMaker asks for one of the two
        return {
            "ModelName": self._model_of[self.variants[0].name],
            "ComputeResourceRequirements": fills,
            "StartupParameters": self._patience,
        }

    @property
    def _patience(self) -> Request:
        return {
            "ModelDataDownloadTimeoutInSeconds": self.spec.startup_s,
            "ContainerStartupHealthCheckTimeoutInSeconds": self.spec.startup_s,
        }

    @property
    def _network(self) -> Request:
        """Nothing in, nothing out; where there is a private network, in that."""
        if not self._deployment.subnets:
            return {"EnableNetworkIsolation": True}
        return {
            "EnableNetworkIsolation": True,
            "VpcConfig": {
                "Subnets": list(self._deployment.subnets),
                "SecurityGroupIds": list(self._deployment.security_groups),
            },
        }

    def _model(self, artefact: Artefact) -> Request:
        source = {"S3Uri": artefact.model, "S3DataType": "S3Prefix", "CompressionType": "None"}
        return {
            "ExecutionRoleArn": self._deployment.role_arn,
            "PrimaryContainer": {"Image": artefact.image, "ModelDataSource": {"S3DataSource": source}},
            **self._network,
        }

    def _config(self) -> Request:
        request: Request = {
            "ProductionVariants": [self._variant(variant) for variant in self.answering],
        }
        shadows = [self._variant(variant) for variant in self.variants if variant.shadow]
        if shadows:
            request["ShadowProductionVariants"] = shadows
        if self._deployment.kms_key_arn and not self.instance.local_disks:
            request["KmsKeyId"] = self._deployment.kms_key_arn
        if self.spec.hosting == "component":
            request |= {"ExecutionRoleArn": self._deployment.role_arn, **self._network}
        return request

    def _variant(self, variant: VariantSpec) -> Request:
        scaling = self.spec.scaling
        request: Request = {
            "VariantName": variant.name,
            "InstanceType": self.spec.instance_type,
            "InitialInstanceCount": max(1, scaling.minimum),
            "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        }
        if self.spec.host_image:
            request["InferenceAmiVersion"] = self.spec.host_image
        if self.spec.hosting == "component":
            request["ManagedInstanceScaling"] = {
                "Status": "ENABLED",
                "MinInstanceCount": scaling.minimum,
                "MaxInstanceCount": scaling.maximum,
            }
            return request
        return request | {
            "ModelName": self._model_of[variant.name],
            "InitialVariantWeight": variant.weight,
            **self._patience,
        }


def lasting(config: Request) -> Request:
    """Return of an endpoint configuration what only another configuration can change."""
    return {
        key: [{name: variant[name] for name in variant if name not in CHANGING} for variant in value]
        if key.endswith("ProductionVariants")
        else value
        for key, value in config.items()
    }


def agrees(wanted: Any, found: Any) -> bool:
    """Whether all that is wanted is found; what AWS adds by itself does not matter, nor does order."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            agrees(value, found.get(name)) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(wanted) == len(found)
            and all(any(agrees(one, other) for other in found) for one in wanted)
        )
    return bool(wanted == found)


def variants_of(endpoint: Request) -> Iterator[Request]:
    """Yield the variants of an endpoint or of its configuration, shadows last."""
    yield from endpoint.get("ProductionVariants", ())
    yield from endpoint.get("ShadowProductionVariants", ())
