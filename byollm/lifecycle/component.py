"""The inference component: the model on an endpoint that may scale to zero."""

from typing import Any

from byollm.aws import Clients, listed, one
from byollm.lifecycle.artefact import digest
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.errors import EndpointFailed
from byollm.lifecycle.progress import Waiting, patient
from byollm.lifecycle.rollout import ATTEMPT, component_rollout, remember, tag_of
from byollm.lifecycle.wanted import Request, Wanted, agrees

MOVING = {"Creating", "Updating", "Deleting"}


class Component:
    """One inference component, as SageMaker has it."""

    def __init__(self, clients: Clients, deployment: Deployment) -> None:
        self._sagemaker, self._deployment = clients.client("sagemaker"), deployment
        self._name = deployment.component

    def found(self) -> dict[str, Any] | None:
        """Return what SageMaker says of it, or None."""
        return one(self._sagemaker.describe_inference_component, InferenceComponentName=self._name)

    def agree(self, wanted: Wanted, alarms: list[str], changes: list[str]) -> None:
        """Make it, or roll it over to what is wanted, and wait until it is.

        Raises:
            EndpointFailed: it could not be brought up, and is deleted so that the next step makes it anew; or
                SageMaker tried the new version and went back.
        """
        request = wanted.component
        if request is None:
            return
        found = self.found()
        if found is None:
            with patient(f"component {self._name}"):
                self._sagemaker.create_inference_component(**request, Tags=self._deployment.tags)
            changes.append(f"component {self._name} made")
            raise Waiting(f"component {self._name}: Creating")
        self._settled(found)
        reason = found.get("FailureReason", "SageMaker gave no reason.")
        if found.get("InferenceComponentStatus") == "Failed":
            self._sagemaker.delete_inference_component(InferenceComponentName=self._name)
            changes.append(f"component {self._name} deleted: Failed")
            raise EndpointFailed(
                f"component {self._name}: Failed: {reason} It is being deleted; the next attempt makes it "
                f"anew. Its log is /aws/sagemaker/InferenceComponents/{self._name} (docs/troubleshooting.md)"
            )
        self._roll(wanted.specification, found, reason, alarms, changes)

    def _settled(self, found: dict[str, Any] | None) -> None:
        """Wait while it moves."""
        status = (found or {}).get("InferenceComponentStatus")
        if status in MOVING:
            raise Waiting(f"component {self._name}: {status}")

    def _roll(
        self,
        wanted: Request,
        found: dict[str, Any],
        reason: str,
        alarms: list[str],
        changes: list[str],
    ) -> None:
        arn, attempt = found["InferenceComponentArn"], digest(wanted)
        if agrees(wanted, found.get("Specification")):
            remember(self._sagemaker, arn, "")
            return
        if tag_of(self._sagemaker, arn, ATTEMPT) == attempt:
            self._settled(self.found())  # or another has begun it since it was looked at
            raise EndpointFailed(
                f"component {self._name}: the new version was sent back: {reason} What ran before goes on "
                "running. Release a version that is better, or settle on the old one first to try this "
                "one again"
            )
        request: Request = {"InferenceComponentName": self._name, "Specification": wanted}
        if not found.get("RuntimeConfig", {}).get("DesiredCopyCount"):
            # Asleep: one copy starts, for a version that never ran was never tried.
            request["RuntimeConfig"] = {"CopyCount": 1}
        rollout = component_rollout(self._deployment.spec.rollout, alarms)
        if rollout:
            request["DeploymentConfig"] = rollout
        with patient(f"component {self._name}"):
            self._sagemaker.update_inference_component(**request)
        remember(self._sagemaker, arn, attempt)
        changes.append(f"component {self._name} moves to {wanted['ModelName']}")
        raise Waiting(f"component {self._name}: Updating")

    def sleep(self, changes: list[str]) -> None:
        """Let no copy run; not while it moves."""
        found = self.found()
        if found is None or found.get("InferenceComponentStatus") != "InService":
            return
        if found.get("RuntimeConfig", {}).get("DesiredCopyCount"):
            self._sagemaker.update_inference_component_runtime_config(
                InferenceComponentName=self._name, DesiredRuntimeConfig={"CopyCount": 0}
            )
            changes.append(f"component {self._name} goes to sleep")

    def remove(self, changes: list[str]) -> None:
        """Delete every component on the endpoint, whoever made it, and wait until all are gone."""
        components = self.all()
        for component in components:
            name = component["InferenceComponentName"]
            if component.get("InferenceComponentStatus") != "Deleting":
                with patient(f"component {name}"):
                    self._sagemaker.delete_inference_component(InferenceComponentName=name)
                changes.append(f"component {name} deleted")
        if components:
            raise Waiting(f"component {components[0]['InferenceComponentName']}: Deleting")

    def all(self) -> list[dict[str, Any]]:
        """Return the components on the endpoint, whoever made them."""
        return list(
            listed(
                self._sagemaker,
                "list_inference_components",
                "InferenceComponents",
                EndpointNameEquals=self._deployment.name,
            )
        )
