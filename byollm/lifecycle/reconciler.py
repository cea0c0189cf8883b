"""Makes what SageMaker has agree with what is declared, a step at a time.

It keeps no notes of its own: each step looks at what is there, does all that can be done now, and says what
it waits for. So it may be killed at any call, and whoever runs it next goes on.
"""

from typing import Any

from botocore.exceptions import ClientError

from byollm.aws import Clients, explained, is_absent, listed
from byollm.lifecycle.artefact import Artefacts
from byollm.lifecycle.component import Component
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.endpoint import DEAD, Endpoint
from byollm.lifecycle.guards import Alarms, guards
from byollm.lifecycle.progress import Progress, Waiting, patient
from byollm.lifecycle.scaling import Scaling
from byollm.lifecycle.wanted import Wanted


class Reconciler:
    """Brings one endpoint up, moves it on, and takes it away.

    Args:
        clients: of the endpoint's region.
        deployment: the endpoint as it should be.
    """

    def __init__(self, clients: Clients, deployment: Deployment) -> None:
        self._sagemaker, self._deployment = clients.client("sagemaker"), deployment
        self._endpoint, self._component = Endpoint(clients, deployment), Component(clients, deployment)
        self._scaling, self._alarms = Scaling(clients, deployment), Alarms(clients, deployment)

    @explained()
    def step(self, artefacts: Artefacts) -> Progress:
        """Do all that can be done now for the endpoint to serve `artefacts` as declared.

        Args:
            artefacts: what each variant serves, by the variant's name.

        Raises:
            EndpointFailed: the endpoint could not be brought up, or a new version was sent back.
            LifecycleError: nothing would answer requests.
            AwsError: AWS refused a call, or could not be reached.
        """
        wanted = Wanted(self._deployment, artefacts)
        changes: list[str] = []
        try:
            self._converge(wanted, changes)
        except Waiting as waiting:
            return Progress(False, str(waiting), tuple(changes))
        return Progress(True, "", tuple(changes))

    def _converge(self, wanted: Wanted, changes: list[str]) -> None:
        tags = self._deployment.tags
        endpoint = self._endpoint.settled()
        if endpoint and endpoint["EndpointStatus"] in DEAD:
            self._scaling.remove(changes)
            self._component.remove(changes)
            self._endpoint.bury(endpoint)
        if endpoint and self._endpoint.hosting(endpoint) != wanted.spec.hosting:
            self._take_down(changes)  # SageMaker moves no endpoint from one way of hosting to the other
            endpoint = None
        for name in sorted(wanted.models.keys() - self._models()):
            with patient(f"model {name}"):
                self._sagemaker.create_model(ModelName=name, **wanted.models[name], Tags=tags)
            changes.append(f"model {name} made")
        config = self._endpoint.config_name(wanted, endpoint)
        if config not in self._configs():
            with patient(f"configuration {config}"):
                self._sagemaker.create_endpoint_config(EndpointConfigName=config, **wanted.config, Tags=tags)
            changes.append(f"configuration {config} made")
        alarms = guards(self._deployment, wanted)
        watching = self._alarms.agree(alarms, changes)
        endpoint = self._endpoint.agree(wanted, endpoint, config, watching, changes)
        self._component.agree(wanted, watching, changes)
        self._endpoint.agree_weights(wanted, endpoint, changes)
        self._scaling.agree(wanted, changes)
        self._tidy(wanted, config, changes)

    @explained()
    def remove(self) -> Progress:
        """Take away all that `step` made, as far as it goes now: what scales it first, models last."""
        changes: list[str] = []
        try:
            self._take_down(changes)
        except Waiting as waiting:
            return Progress(False, str(waiting), tuple(changes))
        return Progress(True, "", tuple(changes))

    def _take_down(self, changes: list[str]) -> None:
        self._alarms.remove(changes)
        self._scaling.remove(changes)
        self._component.remove(changes)
        self._endpoint.remove(changes)
        self._delete_configs(self._configs(), changes)
        self._delete_models(self._models(), changes)

    @explained()
    def left(self) -> list[str]:
        """Name everything of the endpoint that is still there, whoever made it under the endpoint's names."""
        components = [component["InferenceComponentName"] for component in self._component.all()]
        return [
            *(f"alarm {name}" for name in self._alarms.found()),
            *(f"scalable target {resource}" for resource in self._scaling.found()),
            *(f"inference component {name}" for name in components),
            *([f"endpoint {self._deployment.name}"] if self._endpoint.found() else []),
            *(f"endpoint configuration {name}" for name in sorted(self._configs())),
            *(f"model {name}" for name in sorted(self._models())),
        ]

    @explained()
    def renew(self, reason: str) -> bool:
        """Ask for a fresh set of instances, which the next step brings up; return whether there will be one.

        Args:
            reason: tells one request from the next, such as a digest of an alarm's time: the same one asked
                for twice is done once.
        """
        return self._endpoint.renew(reason)

    @explained()
    def scale_down(self) -> list[str]:
        """Run on as little as the hosting allows, until the next `step` scales again; return what changed.

        Components go to sleep, and stay so; variants keep their declared minimum.
        """
        changes: list[str] = []
        if self._deployment.spec.hosting == "component":
            self._scaling.cap(0, changes)
            self._component.sleep(changes)
        else:
            fewest = self._deployment.spec.scaling.minimum
            self._scaling.cap(fewest, changes)
            self._endpoint.shrink(fewest, changes)
        return changes

    def _tidy(self, wanted: Wanted, config: str, changes: list[str]) -> None:
        """Take away what served before: nothing runs on it any more."""
        keep = {alarm["AlarmName"] for alarm in guards(self._deployment, wanted)}
        self._alarms.remove(changes, keep | {f"{self._deployment.alarm_prefix}wake"})
        self._delete_configs(self._configs() - {config}, changes)
        self._delete_models(self._models() - set(wanted.models), changes)

    def _models(self) -> set[str]:
        return self._owned("list_models", "Models", "ModelName")

    def _configs(self) -> set[str]:
        return self._owned("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName")

    def _owned(self, operation: str, key: str, member: str) -> set[str]:
        near = listed(self._sagemaker, operation, key, NameContains=self._deployment.name)
        return {item[member] for item in near if self._deployment.owns(item[member])}

    def _delete_configs(self, names: set[str], changes: list[str]) -> None:
        for name in sorted(names):
            self._delete(self._sagemaker.delete_endpoint_config, EndpointConfigName=name)
            changes.append(f"configuration {name} deleted")

    def _delete_models(self, names: set[str], changes: list[str]) -> None:
        for name in sorted(names):
            self._delete(self._sagemaker.delete_model, ModelName=name)
            changes.append(f"model {name} deleted")

    def _delete(self, delete: Any, **name: str) -> None:
        """Delete what may be gone already: a list can be a moment old."""
        try:
            delete(**name)
        except ClientError as error:
            if not is_absent(error):
                raise
