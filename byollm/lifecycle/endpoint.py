"""The endpoint itself: made, moved to another configuration, mended, removed."""

import math
from typing import Any, NoReturn

from byollm.aws import Clients, one
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.errors import EndpointFailed
from byollm.lifecycle.progress import Waiting, patient
from byollm.lifecycle.rollout import ATTEMPT, RENEWAL, endpoint_rollout, remember, tag_of
from byollm.lifecycle.scaling import Scaling
from byollm.lifecycle.wanted import Request, Wanted, lasting, variants_of

MOVING = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
DEAD = {"Failed", "OutOfService"}


class Endpoint:
    """One endpoint, as SageMaker has it."""

    def __init__(self, clients: Clients, deployment: Deployment) -> None:
        self._sagemaker, self._deployment = clients.client("sagemaker"), deployment
        self._scaling = Scaling(clients, deployment)
        self._name = deployment.name

    def found(self) -> dict[str, Any] | None:
        """Return what SageMaker says of it, or None."""
        return one(self._sagemaker.describe_endpoint, EndpointName=self._name)

    def settled(self) -> dict[str, Any] | None:
        """Return it as it stands, or None where there is none; wait while it moves."""
        found = self.found()
        if found and found["EndpointStatus"] in MOVING:
            raise Waiting(f"endpoint {self._name}: {found['EndpointStatus']}")
        return found

    def bury(self, found: dict[str, Any]) -> NoReturn:
        """Delete one that could not be brought up, so that the next step makes it anew, and say why."""
        self._sagemaker.delete_endpoint(EndpointName=self._name)
        raise EndpointFailed(
            f"endpoint {self._name}: {found['EndpointStatus']}: "
            f"{found.get('FailureReason', 'SageMaker gave no reason.')} It is being deleted; the next "
            f"attempt makes it anew. Its log is /aws/sagemaker/Endpoints/{self._name} "
            "(docs/troubleshooting.md)"
        )

    def config_name(self, wanted: Wanted, found: dict[str, Any] | None) -> str:
        """Return the name of its configuration; a renewal gives the same content another name."""
        renewal = tag_of(self._sagemaker, found["EndpointArn"], RENEWAL) if found else ""
        content = lasting(wanted.config)
        return self._deployment.named({**content, "Renewal": renewal} if renewal else content)

    def hosting(self, found: dict[str, Any]) -> str:
        """Return how it hosts the model now."""
        managed = any("ManagedInstanceScaling" in variant for variant in variants_of(found))
        return "component" if managed else "variant"

    def agree(
        self, wanted: Wanted, found: dict[str, Any] | None, config: str, alarms: list[str], changes: list[str]
    ) -> dict[str, Any]:
        """Return it once it runs `config`; until then make or move it, and wait.

        Raises:
            EndpointFailed: SageMaker tried `config` and went back.
        """
        if found is None:
            with patient(f"endpoint {self._name}"):
                self._sagemaker.create_endpoint(
                    EndpointName=self._name, EndpointConfigName=config, Tags=self._deployment.tags
                )
            changes.append(f"endpoint {self._name} made on {config}")
            raise Waiting(f"endpoint {self._name}: Creating")
        arn, status = found["EndpointArn"], found["EndpointStatus"]
        if found["EndpointConfigName"] == config and status == "InService":
            remember(self._sagemaker, arn, "")
            return found
        if status == "InService" and tag_of(self._sagemaker, arn, ATTEMPT) == config:
            self.settled()  # or another has begun it since it was looked at
            raise EndpointFailed(
                f"endpoint {self._name}: the new version was sent back: "
                f"{found.get('FailureReason', 'an alarm went off while it took over')} "
                f"What ran before goes on running, on {found['EndpointConfigName']}. "
                "Release a version that is better, or settle on the old one first to try this one again"
            )
        request = self._update(wanted, found, config, alarms, changes)
        with patient(f"endpoint {self._name}"):
            self._sagemaker.update_endpoint(**request)
        remember(self._sagemaker, arn, config)
        changes.append(f"endpoint {self._name} moves to {config}")
        raise Waiting(f"endpoint {self._name}: Updating")

    def _update(
        self, wanted: Wanted, found: dict[str, Any], config: str, alarms: list[str], changes: list[str]
    ) -> Request:
        """Return the request that moves the endpoint, which may first need variants not to be scaled.

        Counts and weights stay as they are; `agree_weights` sets weights that the specification changed.
        """
        request = {
            "EndpointName": self._name,
            "EndpointConfigName": config,
            "RetainAllVariantProperties": True,
        }
        before = one(self._sagemaker.describe_endpoint_config, EndpointConfigName=found["EndpointConfigName"])
        # Where somebody has deleted the configuration, nobody knows the types: all of them may change.
        types = {
            variant["VariantName"]: variant.get("InstanceType") for variant in variants_of(before or found)
        }
        next_types = {
            variant["VariantName"]: variant["InstanceType"] for variant in variants_of(wanted.config)
        }
        self._scaling.release_variants(
            {name for name, kind in types.items() if next_types.get(name) != kind}, changes
        )
        # Requests are shifted step by step only between configurations of the same variants.
        # https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html
        if wanted.spec.hosting == "variant" and set(types) == set(next_types):
            request["DeploymentConfig"] = endpoint_rollout(wanted.spec.rollout, alarms)
        return request

    def agree_weights(self, wanted: Wanted, found: dict[str, Any], changes: list[str]) -> None:
        """Give each variant its share of the requests: one call, no new instances."""
        if wanted.spec.hosting == "component":
            return
        shares = {
            variant["VariantName"]: variant.get("DesiredWeight", -1.0) for variant in variants_of(found)
        }
        wrong = [
            {"VariantName": name, "DesiredWeight": weight}
            for name, weight in wanted.weights.items()
            # AWS keeps them in single precision.
            if not math.isclose(shares.get(name, -1.0), weight, rel_tol=1e-6)
        ]
        if wrong:
            with patient(f"endpoint {self._name}"):
                self._sagemaker.update_endpoint_weights_and_capacities(
                    EndpointName=self._name, DesiredWeightsAndCapacities=wrong
                )
            changes.append(f"endpoint {self._name} shares requests anew")
            raise Waiting(f"endpoint {self._name}: Updating")

    def renew(self, reason: str) -> bool:
        """Make the next step replace every instance by a fresh one; not while it moves anyway."""
        found = self.found()
        if found is None or found["EndpointStatus"] != "InService":
            return False
        tag = {"Key": RENEWAL, "Value": reason}
        self._sagemaker.add_tags(ResourceArn=found["EndpointArn"], Tags=[tag])
        return True

    def shrink(self, count: int, changes: list[str]) -> None:
        """Have each variant run on so many instances; not while the endpoint moves."""
        found = self.found()
        if found is None or found["EndpointStatus"] != "InService":
            return
        more = [
            {"VariantName": variant["VariantName"], "DesiredInstanceCount": count}
            for variant in variants_of(found)
            if variant.get("DesiredInstanceCount", count) > count
        ]
        if more:
            self._sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=self._name, DesiredWeightsAndCapacities=more
            )
            changes.append(f"endpoint {self._name} shrinks to {count} instances a variant")

    def remove(self, changes: list[str]) -> None:
        """Delete it, and wait until it is gone."""
        found = self.found()
        if found is None:
            return
        if found["EndpointStatus"] != "Deleting":
            with patient(f"endpoint {self._name}"):
                self._sagemaker.delete_endpoint(EndpointName=self._name)
            changes.append(f"endpoint {self._name} deleted")
        raise Waiting(f"endpoint {self._name}: Deleting")
