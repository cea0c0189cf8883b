"""ECS: clusters, task definitions, and services that CloudFormation waits for."""

import time
from collections.abc import Iterator

from byollm.local.cloudformation.provider import Made, Members, Properties, Provider, Resource
from byollm.local.cloudformation.table import Calls

_PATIENCE = 3 * 60 * 60.0  # seconds of the world's clock that CloudFormation waits for a service
_EVERY = 0.2  # real seconds


class _Service(Provider):
    """A service, made or changed when its tasks run and are healthy."""

    replaces = ("Cluster", "LaunchType", "SchedulingStrategy", "ServiceName")
    name = "ServiceName"
    tags = "list"

    def create(self, resource: Resource) -> Made:
        """Make it, with one task where the template does not say how many."""
        name = {"ServiceName": resource.named(255), "DesiredCount": 1}
        made = resource.call("ecs", "CreateService", name | dict(resource.properties))
        return self._settled(resource, made["service"])

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change it; where the template does not say how many tasks, they stay as many as they are."""
        fixed = (*self.replaces, "Role", "Tags")
        changed = {name: value for name, value in resource.properties.items() if name not in fixed}
        made = resource.call("ecs", "UpdateService", {**self._key(resource, id), **changed})
        tags = resource.properties.get("Tags")
        if tags and tags != old.get("Tags"):
            resource.call("ecs", "TagResource", {"resourceArn": id, "tags": tags})
        return self._settled(resource, made["service"])

    def delete(self, resource: Resource, id: str) -> None:
        """Stop its tasks and remove it; it is gone when the last of them has ended."""
        resource.remove("ecs", "DeleteService", {**self._key(resource, id), "force": True})
        for service in self._watched(resource, id):
            if service is None or service["status"] == "INACTIVE":
                return

    def _settled(self, resource: Resource, made: Members) -> Made:
        """Wait until the deployment that was just begun is done.

        Raises:
            RuntimeError: its tasks do not come to run, or not in time.
        """
        arn, begun = made["serviceArn"], made["deployments"][0]["id"]
        for service in self._watched(resource, arn):
            newest = service["deployments"][0] if service else {}
            if newest.get("id") != begun or newest["rolloutState"] == "FAILED":
                said = [event["message"] for event in service["events"]] if service else []
                fault = next(
                    (one for one in said if "deployment failed" in one), "it was replaced or removed"
                )
                raise RuntimeError(f"{arn} did not become stable: {fault}")
            settled = newest["runningCount"] == newest["desiredCount"] and not newest["pendingCount"]
            if newest["rolloutState"] == "COMPLETED" and settled:
                break
        return arn, {"Name": made["serviceName"], "ServiceArn": arn}

    def _watched(self, resource: Resource, arn: str) -> Iterator[Members | None]:
        """Yield the service again and again, None where it is not there.

        Raises:
            RuntimeError: it takes too long.
        """
        deadline = time.monotonic() + _PATIENCE / resource.world.clock.factor
        asked = {**self._cluster(resource), "services": [arn]}
        while time.monotonic() < deadline:
            found: list[Members] = resource.call("ecs", "DescribeServices", asked)["services"]
            yield found[0] if found else None
            time.sleep(_EVERY)
        raise RuntimeError(f"{arn} did not become stable in time")

    def _key(self, resource: Resource, arn: str) -> Members:
        return {**self._cluster(resource), "service": arn}

    @staticmethod
    def _cluster(resource: Resource) -> Members:
        return {"cluster": resource.properties.get("Cluster", "default")}


def _cluster(properties: Properties) -> Members:
    given = dict(properties)
    settings = given.pop("ClusterSettings", None)
    return {**given, **({"settings": settings} if settings else {})}


PROVIDERS: dict[str, Provider] = {
    "AWS::ECS::Cluster": Calls(
        service="ecs",
        creates="CreateCluster",
        changes="UpdateCluster",
        removes="DeleteCluster",
        read=lambda given, made: (
            made["cluster"]["clusterName"],
            {"Arn": made["cluster"]["clusterArn"]},
        ),
        key=lambda id, _: {"cluster": id},
        members=_cluster,
        fixed=("ClusterName", "Tags", "CapacityProviders", "DefaultCapacityProviderStrategy"),
        name="ClusterName",
        longest=255,
        replaces=("ClusterName",),
        tags="list",
    ),
    "AWS::ECS::TaskDefinition": Calls(
        service="ecs",
        creates="RegisterTaskDefinition",
        removes="DeregisterTaskDefinition",
        read=lambda _, made: (
            made["taskDefinition"]["taskDefinitionArn"],
            {"TaskDefinitionArn": made["taskDefinition"]["taskDefinitionArn"]},
        ),
        key=lambda id, _: {"taskDefinition": id},
        longest=255,
        tags="list",
    ),
    "AWS::ECS::Service": _Service(),
}
