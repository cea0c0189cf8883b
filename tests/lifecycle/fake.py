"""SageMaker, autoscaling and alarms in memory, behind unmodified boto3 clients.

For the tests that step through hundreds of convergences: every request passes botocore's own validation, and
what AWS refuses is refused. Nothing moves by itself; `settle` lets the time pass that AWS would take.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ParamValidationError
from botocore.validate import ParamValidator

from tests.lifecycle.fake_scaling import NOW, FakeScaling, Refused

ARN = "arn:aws:sagemaker:ca-central-1:123456789012:"
READS = ("Describe", "List")


class Kill(BaseException):
    """The process is gone."""


class Http:
    def __init__(self, status: int) -> None:
        self.status_code = status


@cache
def _client(service: str) -> Any:
    """Return a real client; to make one takes longer than all its calls here."""
    once = Config(retries={"total_max_attempts": 1})
    return boto3.session.Session("a", "b", region_name="ca-central-1").client(service, config=once)


class FakeAws(FakeScaling):
    """One account. `calls` are the requests so far; `kill_after` ends the process after so many more."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.kill_after: int | None = None
        self.models: dict[str, Any] = {}
        self.configs: dict[str, Any] = {}
        self.endpoints: dict[str, Any] = {}
        self.components: dict[str, Any] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.in_between: tuple[int, Callable[[], object]] | None = None  # what another does after so many
        self.failing: str | None = None  # why whatever is made next fails
        self.going_back: str | None = None  # why whatever is updated next goes back

    @property
    def changes(self) -> list[str]:
        return [name for name, _ in self.calls if not name.startswith(READS)]

    def given(self, operation: str) -> list[dict[str, Any]]:
        return [given for name, given in self.calls if name == operation]

    def state(self) -> dict[str, Any]:
        """All there is; a tag that says nothing is none."""
        kept = ("models", "configs", "endpoints", "components", "targets", "policies", "alarms")
        said = {arn: {key: value for key, value in tags.items() if value} for arn, tags in self.tags.items()}
        return {**{kind: deepcopy(getattr(self, kind)) for kind in kept}, "tags": said}

    def client(self, service: str) -> Any:
        """Return the client of `service`, answered by this account from now on."""
        client = _client(service)
        for event, answer in (("before-parameter-build", self._keep), ("before-call", self._answer)):
            client.meta.events.unregister(event, unique_id=event)
            client.meta.events.register(event, answer, unique_id=event)
        return client

    def _keep(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["given"] = dict(params)

    def _answer(self, model: Any, context: dict[str, Any], **_: Any) -> tuple[Http, dict[str, Any]]:
        name, given = model.name, context["given"]
        self.calls.append((name, given))
        operation: Callable[..., dict[str, Any] | None] = getattr(self, name)
        try:
            answer = operation(**given) or {}
        except Refused as error:
            return Http(400), {"Error": {"Code": error.code, "Message": str(error)}}
        if model.output_shape is not None:
            faults = ParamValidator().validate(answer, model.output_shape)
            if faults.has_errors():
                raise ParamValidationError(report=faults.generate_report())
        if self.in_between is not None:
            left, act = self.in_between
            self.in_between = (left - 1, act) if left else None
            if not left:
                act()
        if self.kill_after is not None:
            self.kill_after -= 1
            if self.kill_after < 0:
                self.kill_after = None
                raise Kill
        return Http(200), {**answer, "ResponseMetadata": {"HTTPStatusCode": 200}}

    def settle(self) -> None:
        """Let everything that moves arrive."""
        for name, endpoint in list(self.endpoints.items()):
            target = endpoint.pop("_to", None)
            if endpoint["EndpointStatus"] == "Deleting":
                del self.endpoints[name]
                del self.tags[endpoint["EndpointArn"]]
            elif endpoint["EndpointStatus"] == "Creating" and self.failing:
                endpoint |= {"EndpointStatus": "Failed", "FailureReason": self.failing}
            elif endpoint["EndpointStatus"] in ("Creating", "Updating"):
                endpoint["EndpointStatus"] = "InService"
                if target and not self.going_back:
                    self._run(endpoint, target)
                elif target:
                    endpoint["FailureReason"] = self.going_back
        for name, component in list(self.components.items()):
            target = component.pop("_to", None)
            if component["InferenceComponentStatus"] == "Deleting":
                del self.components[name]
                del self.tags[component["InferenceComponentArn"]]
            elif component["InferenceComponentStatus"] == "Creating" and self.failing:
                component |= {"InferenceComponentStatus": "Failed", "FailureReason": self.failing}
            elif component["InferenceComponentStatus"] in ("Creating", "Updating"):
                component["InferenceComponentStatus"] = "InService"
                if target and not self.going_back:
                    component["Specification"] = target
                elif target:
                    component["FailureReason"] = self.going_back

    def _run(self, endpoint: dict[str, Any], config_name: str) -> None:
        """Put an endpoint on a configuration; what is retained stays."""
        config = self.configs[config_name]
        old = {variant["VariantName"]: variant for variant in self._variants(endpoint)}
        endpoint["EndpointConfigName"] = config_name
        for kind in ("ProductionVariants", "ShadowProductionVariants"):
            endpoint.pop(kind, None)
            if kind not in config:
                continue
            endpoint[kind] = [
                {
                    "VariantName": variant["VariantName"],
                    "DesiredWeight": variant.get("InitialVariantWeight", 1.0),
                    "DesiredInstanceCount": variant["InitialInstanceCount"],
                    **{
                        key: old[variant["VariantName"]][key]
                        for key in ("DesiredWeight", "DesiredInstanceCount")
                        if variant["VariantName"] in old
                    },
                    **{
                        key: variant[key]
                        for key in ("ManagedInstanceScaling", "RoutingConfig")
                        if key in variant
                    },
                }
                for variant in config[kind]
            ]

    @staticmethod
    def _variants(holder: dict[str, Any]) -> list[dict[str, Any]]:
        return [*holder.get("ProductionVariants", ()), *holder.get("ShadowProductionVariants", ())]

    @staticmethod
    def _new(kind: dict[str, Any], name: str, words: str) -> None:
        if name in kind:
            raise Refused(f'Cannot create already existing {words} "{name}".')

    # SageMaker

    def CreateModel(self, ModelName: str, Tags: Any, **rest: Any) -> dict[str, Any]:
        self._new(self.models, ModelName, "model")
        self.models[ModelName] = rest
        return {"ModelArn": f"{ARN}model/{ModelName}"}

    def ListModels(self, NameContains: str, **_: Any) -> dict[str, Any]:
        names = [name for name in self.models if NameContains in name]
        arn = f"{ARN}model/"
        models = [{"ModelName": name, "ModelArn": arn + name, "CreationTime": NOW} for name in names]
        return {"Models": models}

    def DeleteModel(self, ModelName: str) -> None:
        self._get(self.models, ModelName, "model")
        for component in self.components.values():
            assert component["Specification"]["ModelName"] != ModelName, "a model in use was deleted"
        del self.models[ModelName]

    def CreateEndpointConfig(self, EndpointConfigName: str, Tags: Any, **rest: Any) -> dict[str, Any]:
        self._new(self.configs, EndpointConfigName, "endpoint configuration")
        for variant in self._variants(rest):
            if "ModelName" in variant:
                self._get(self.models, variant["ModelName"], "model")
        self.configs[EndpointConfigName] = rest
        return {"EndpointConfigArn": f"{ARN}endpoint-config/{EndpointConfigName}"}

    def DescribeEndpointConfig(self, EndpointConfigName: str) -> dict[str, Any]:
        found = self._get(self.configs, EndpointConfigName, "endpoint configuration")
        arn = f"{ARN}endpoint-config/{EndpointConfigName}"
        names = {"EndpointConfigName": EndpointConfigName, "EndpointConfigArn": arn}
        return {**found, **names, "CreationTime": NOW}

    def ListEndpointConfigs(self, NameContains: str, **_: Any) -> dict[str, Any]:
        return {
            "EndpointConfigs": [
                {
                    "EndpointConfigName": name,
                    "EndpointConfigArn": f"{ARN}endpoint-config/{name}",
                    "CreationTime": NOW,
                }
                for name in self.configs
                if NameContains in name
            ]
        }

    def DeleteEndpointConfig(self, EndpointConfigName: str) -> None:
        self._get(self.configs, EndpointConfigName, "endpoint configuration")
        for endpoint in self.endpoints.values():
            used = {endpoint["EndpointConfigName"], endpoint.get("_to")}
            assert EndpointConfigName not in used, "a configuration in use was deleted"
        del self.configs[EndpointConfigName]

    def CreateEndpoint(self, EndpointName: str, EndpointConfigName: str, Tags: Any) -> dict[str, Any]:
        self._new(self.endpoints, EndpointName, "endpoint")
        self._get(self.configs, EndpointConfigName, "endpoint configuration")
        arn = f"{ARN}endpoint/{EndpointName}"
        endpoint = {"EndpointArn": arn, "EndpointStatus": "Creating"}
        self._run(endpoint, EndpointConfigName)
        self.endpoints[EndpointName] = endpoint
        self.tags[arn] = {tag["Key"]: tag["Value"] for tag in Tags}
        return {"EndpointArn": arn}

    def DescribeEndpoint(self, EndpointName: str) -> dict[str, Any]:
        found = self._get(self.endpoints, EndpointName, "endpoint")
        seen = {key: value for key, value in found.items() if not key.startswith("_")}
        return {"EndpointName": EndpointName, **seen, "CreationTime": NOW, "LastModifiedTime": NOW}

    def UpdateEndpoint(
        self, EndpointName: str, EndpointConfigName: str, DeploymentConfig: Any = None, **rest: Any
    ) -> dict[str, Any]:
        endpoint = self._get(self.endpoints, EndpointName, "endpoint")
        config = self._get(self.configs, EndpointConfigName, "endpoint configuration")
        if endpoint["EndpointStatus"] not in ("InService", "UpdateRollbackFailed"):
            raise Refused(f"Cannot update in-progress endpoint {EndpointName}")
        assert rest["RetainAllVariantProperties"], "counts and weights would be lost"
        old, new = (
            self._variants(self.configs.get(endpoint["EndpointConfigName"], {})),
            self._variants(config),
        )
        kinds = {variant["VariantName"]: variant["InstanceType"] for variant in new}
        for variant in old:
            if ("ModelName" in variant) != ("ModelName" in new[0]):
                raise Refused("An endpoint keeps its way of hosting")
            resource = f"endpoint/{EndpointName}/variant/{variant['VariantName']}"
            if kinds.get(variant["VariantName"]) != variant["InstanceType"] and resource in self.targets:
                raise Refused(f"{resource} must be deregistered as scalable target")
        if DeploymentConfig:
            assert {variant["VariantName"] for variant in old} == set(kinds), (
                "other variants cannot be guarded"
            )
            for alarm in DeploymentConfig.get("AutoRollbackConfiguration", {}).get("Alarms", ()):
                if self.alarms.get(alarm["AlarmName"], {"StateValue": "ALARM"})["StateValue"] == "ALARM":
                    raise Refused(f"alarm {alarm} is not there, or in alarm")
        endpoint |= {"EndpointStatus": "Updating", "_to": EndpointConfigName}
        return {"EndpointArn": endpoint["EndpointArn"]}

    def UpdateEndpointWeightsAndCapacities(
        self, EndpointName: str, DesiredWeightsAndCapacities: Any
    ) -> dict[str, Any]:
        endpoint = self._get(self.endpoints, EndpointName, "endpoint")
        if endpoint["EndpointStatus"] != "InService":
            raise Refused(f"Cannot update in-progress endpoint {EndpointName}")
        variants = {variant["VariantName"]: variant for variant in self._variants(endpoint)}
        for wanted in DesiredWeightsAndCapacities:
            self._get(variants, wanted["VariantName"], "variant").update(wanted)
        endpoint["EndpointStatus"] = "Updating"
        return {"EndpointArn": endpoint["EndpointArn"]}

    def DeleteEndpoint(self, EndpointName: str) -> None:
        endpoint = self._get(self.endpoints, EndpointName, "endpoint")
        if endpoint["EndpointStatus"] in ("Creating", "Updating"):
            raise Refused(f"Cannot delete in-progress endpoint {EndpointName}")
        here = [one for one in self.components.values() if one["EndpointName"] == EndpointName]
        assert not here, "components would be left behind"
        scaled = [resource for resource in self.targets if resource.startswith(f"endpoint/{EndpointName}/")]
        assert not scaled or endpoint["EndpointStatus"] == "Failed", "targets would be left behind"
        endpoint["EndpointStatus"] = "Deleting"

    def CreateInferenceComponent(
        self, InferenceComponentName: str, EndpointName: str, Specification: Any, Tags: Any, **rest: Any
    ) -> dict[str, Any]:
        self._new(self.components, InferenceComponentName, "inference component")
        endpoint = self._get(self.endpoints, EndpointName, "endpoint")
        if endpoint["EndpointStatus"] != "InService":
            raise Refused(f"endpoint {EndpointName} is not in service")
        self._get(self.models, Specification["ModelName"], "model")
        arn = f"{ARN}inference-component/{InferenceComponentName}"
        self.components[InferenceComponentName] = {
            "InferenceComponentArn": arn,
            "EndpointName": EndpointName,
            "VariantName": rest["VariantName"],
            "InferenceComponentStatus": "Creating",
            "Specification": Specification,
            "RuntimeConfig": {"DesiredCopyCount": rest["RuntimeConfig"]["CopyCount"]},
        }
        self.tags[arn] = {tag["Key"]: tag["Value"] for tag in Tags}
        return {"InferenceComponentArn": arn}

    def DescribeInferenceComponent(self, InferenceComponentName: str) -> dict[str, Any]:
        found = self._get(self.components, InferenceComponentName, "inference component")
        seen = {key: value for key, value in found.items() if not key.startswith("_")}
        return {
            "InferenceComponentName": InferenceComponentName,
            **seen,
            "EndpointArn": f"{ARN}endpoint/{found['EndpointName']}",
            "CreationTime": NOW,
            "LastModifiedTime": NOW,
        }

    def ListInferenceComponents(self, EndpointNameEquals: str, **_: Any) -> dict[str, Any]:
        every = [self.DescribeInferenceComponent(name) for name in self.components]
        unlisted = ("Specification", "RuntimeConfig", "FailureReason")
        return {
            "InferenceComponents": [
                {key: value for key, value in one.items() if key not in unlisted}
                for one in every
                if one["EndpointName"] == EndpointNameEquals
            ]
        }

    def UpdateInferenceComponent(self, InferenceComponentName: str, **given: Any) -> dict[str, Any]:
        found = self._get(self.components, InferenceComponentName, "inference component")
        if found["InferenceComponentStatus"] != "InService":
            raise Refused(f"Cannot update in-progress inference component {InferenceComponentName}")
        self._get(self.models, given["Specification"]["ModelName"], "model")
        if "RuntimeConfig" in given:
            found["RuntimeConfig"] = {"DesiredCopyCount": given["RuntimeConfig"]["CopyCount"]}
        found |= {"InferenceComponentStatus": "Updating", "_to": given["Specification"]}
        return {"InferenceComponentArn": found["InferenceComponentArn"]}

    def DeleteInferenceComponent(self, InferenceComponentName: str) -> None:
        found = self._get(self.components, InferenceComponentName, "inference component")
        if found["InferenceComponentStatus"] in ("Creating", "Updating"):
            raise Refused(f"Cannot delete in-progress inference component {InferenceComponentName}")
        found["InferenceComponentStatus"] = "Deleting"

    def AddTags(self, ResourceArn: str, Tags: Any) -> dict[str, Any]:
        self._get(self.tags, ResourceArn, "resource").update({tag["Key"]: tag["Value"] for tag in Tags})
        return {"Tags": Tags}

    def ListTags(self, ResourceArn: str, **_: Any) -> dict[str, Any]:
        tags = self._get(self.tags, ResourceArn, "resource")
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
