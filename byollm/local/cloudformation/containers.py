"""ECS: clusters, task definitions, and services that CloudFormation waits for."""

import time

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
        arn = resource.call("ecs", "CreateService", name | dict(resource.properties))["service"]["serviceArn"]
        return self._settled(resource, arn)

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change it; where the template does not say how many tasks, they stay as many as they are."""
        fixed = (*self.replaces, "Role", "Tags")
        changed = {name: value for name, value in resource.properties.items() if name not in fixed}
        resource.call("ecs", "UpdateService", {**self._key(resource, id), **changed})
        if resource.properties.get("Tags") != old.get("Tags"):
            tags = {"resourceArn": id, "tags": resource.properties["Tags"]}
            resource.call("ecs", "TagResource", tags)
        return self._settled(resource, id)

    def delete(self, resource: Resource, id: str) -> None:
        """Stop its tasks and remove it."""
        resource.remove("ecs", "DeleteService", {**self._key(resource, id), "force": True})

    def _settled(self, resource: Resource, arn: str) -> Made:
        """Wait until the newest deployment is done.

        Raises:
            RuntimeError: its tasks do not come to run, or not in time.
        """
        deadline = time.monotonic() + _PATIENCE / resource.world.clock.factor
        while time.monotonic() < deadline:
            service = self._describe(resource, arn)
            newest: Members = service["deployments"][0]
            match newest.get("rolloutState", "COMPLETED"):
                case "COMPLETED":
                    return arn, {"Name": service["serviceName"], "ServiceArn": arn}
                case "FAILED":
                    raise RuntimeError(f"{arn} did not become stable: {newest.get('rolloutStateReason')}")
            time.sleep(_EVERY)
        raise RuntimeError(f"{arn} did not become stable in time")

    def _describe(self, resource: Resource, arn: str) -> Members:
        cluster, services = self._cluster(resource), [arn]
        answer = resource.call("ecs", "DescribeServices", {**cluster, "services": services})
        found: Members = answer["services"][0]
        return found

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
