"""What is declared of ECS and what ran: documents in AWS's shapes, on disk."""

from typing import Any

from byollm.local.protocol import AwsError
from byollm.local.store import Store
from byollm.local.world import World

Document = dict[str, Any]

DEFAULT_CLUSTER = "default"


class State:
    """Clusters, task definitions, services and tasks.

    Services are living documents, which their schedulers and the API share; all else is read as a copy.
    What begins with an underscore in a document is ours, and not shown.

    Args:
        world: for the ARNs.
        store: where they are kept.
    """

    def __init__(self, world: World, store: Store) -> None:
        self.world, self.store = world, store
        self.services: dict[str, Document] = {one["serviceArn"]: one for one in store.list("service")}

    def arn(self, resource: str) -> str:
        """Return the ARN of a resource, such as `cluster/default`."""
        return self.world.arn("ecs", resource)

    def cluster(self, reference: str | None) -> Document:
        """Return a cluster by its name or ARN.

        Raises:
            AwsError: there is no such cluster, or no more.
        """
        found = self.store.get("cluster", _name(reference or DEFAULT_CLUSTER))
        if found is None or found["status"] != "ACTIVE":
            raise AwsError("ClusterNotFoundException", "Cluster not found.")
        return found

    def find_service(self, cluster: str, reference: str) -> Document | None:
        """Return the living document of a service by its name or ARN, whatever its status."""
        return self.services.get(self.arn(f"service/{cluster}/{_name(reference)}"))

    def service(self, cluster: str, reference: str) -> Document:
        """Return an active service.

        Raises:
            AwsError: there is no such service, or it is going.
        """
        found = self.find_service(cluster, reference)
        if found is None:
            raise AwsError("ServiceNotFoundException", "Service not found.")
        if found["status"] != "ACTIVE":
            raise AwsError("ServiceNotActiveException", "Service was not ACTIVE.")
        return found

    def put_service(self, service: Document) -> None:
        """Keep a service."""
        self.services[service["serviceArn"]] = service
        self.store.put("service", f"{_name(service['clusterArn'])}/{service['serviceName']}", service)

    def definition(self, reference: str) -> Document:
        """Return a task definition by its ARN, `family:revision`, or family for its newest active one.

        Raises:
            AwsError: there is none.
        """
        name = _name(reference)
        if ":" in name:
            found = self.store.get("definition", name)
        else:
            family = [one for one in self.definitions(name) if one["status"] == "ACTIVE"]
            found = family[-1] if family else None
        if found is None:
            raise AwsError("ClientException", "Unable to describe task definition.")
        return found

    def definitions(self, family: str | None = None) -> list[Document]:
        """Return the task definitions, of one family or all, the oldest first."""
        found = [one for one in self.store.list("definition") if family in {None, one["family"]}]
        return sorted(found, key=lambda one: (one["family"], one["revision"]))

    def tasks(self, **members: Any) -> list[Document]:
        """Return the tasks whose members are as given, the oldest first."""
        found = [
            task
            for task in self.store.list("task")
            if all(task.get(key) == of for key, of in members.items())
        ]
        return sorted(found, key=lambda task: float(task["createdAt"]))

    def put_task(self, task: Document) -> None:
        """Keep a task."""
        self.store.put("task", _name(task["taskArn"]), task)


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def shown(document: Document, given: Document | None = None) -> Document:
    """Return a document as AWS shows it: tags only where the request's `include` asks for them."""
    tagless = given is not None and "TAGS" not in given.get("include", [])
    return {
        name: value
        for name, value in document.items()
        if not name.startswith("_") and not (tagless and name == "tags")
    }


def page(member: str, arns: list[str], given: Document) -> Document:
    """Return the part of a list that a request asks for, as `member`, with the token of the next."""
    try:
        begin = int(given.get("nextToken", "0"))
    except ValueError:
        raise AwsError("InvalidParameterException", "Invalid token provided.") from None
    end = begin + given.get("maxResults", 100)
    return {member: arns[begin:end], **({"nextToken": str(end)} if end < len(arns) else {})}
