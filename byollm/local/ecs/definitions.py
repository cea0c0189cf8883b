"""The operations on task definitions."""

from byollm.local.ecs.state import Document, State, page, shown
from byollm.local.protocol import AwsError, Members
from byollm.settings.services import FARGATE

# What changes how a container runs, and would be passed over in silence.
UNKNOWN = ("entryPoint", "environmentFiles", "firelensConfiguration", "restartPolicy")
AWSLOGS = ("awslogs-group", "awslogs-region", "awslogs-stream-prefix")
CONTAINER = {
    "cpu": 0,
    "portMappings": [],
    "essential": True,
    "environment": [],
    "mountPoints": [],
    "volumesFrom": [],
}


class DefinitionOperations:
    """RegisterTaskDefinition and its neighbours."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def register_task_definition(self, given: Members) -> Members:
        """Declare the next revision of a task definition."""
        _check(given)
        family = given["family"]
        before = self._state.definitions(family)
        revision = before[-1]["revision"] + 1 if before else 1
        definition = {
            **{name: value for name, value in given.items() if name != "tags"},
            "taskDefinitionArn": self._state.arn(f"task-definition/{family}:{revision}"),
            "containerDefinitions": [_container(one) for one in given["containerDefinitions"]],
            "revision": revision,
            "volumes": given.get("volumes", []),
            "status": "ACTIVE",
            "placementConstraints": given.get("placementConstraints", []),
            "compatibilities": ["EC2", "FARGATE"],
            "registeredAt": self._state.world.clock.now(),
            "tags": given.get("tags", []),
        }
        self._put(definition)
        return {"taskDefinition": _untagged(definition), "tags": definition["tags"]}

    def _put(self, definition: Document) -> None:
        name = f"{definition['family']}:{definition['revision']}"
        self._state.store.put("definition", name, definition)

    async def describe_task_definition(self, given: Members) -> Members:
        """Tell of a task definition."""
        definition = self._state.definition(given["taskDefinition"])
        tags = definition["tags"] if "TAGS" in given.get("include", []) else []
        return {"taskDefinition": _untagged(definition), "tags": tags}

    async def list_task_definitions(self, given: Members) -> Members:
        """List task definitions, the active ones unless others are asked for."""
        found = [
            definition["taskDefinitionArn"]
            for definition in self._state.definitions()
            if definition["status"] == given.get("status", "ACTIVE")
            and definition["family"].startswith(given.get("familyPrefix", ""))
        ]
        return page("taskDefinitionArns", found[:: -1 if given.get("sort") == "DESC" else 1], given)

    async def list_task_definition_families(self, given: Members) -> Members:
        """List the families that have an active revision, or any where all are asked for."""
        wanted = {"ALL": {"ACTIVE", "INACTIVE"}}.get(given.get("status", "ALL"), {given.get("status")})
        found = {
            definition["family"]
            for definition in self._state.definitions()
            if definition["status"] in wanted
            and definition["family"].startswith(given.get("familyPrefix", ""))
        }
        return page("families", sorted(found), given)

    async def deregister_task_definition(self, given: Members) -> Members:
        """Take a revision out of use; what runs of it goes on."""
        if ":" not in given["taskDefinition"].rpartition("/")[2]:
            raise AwsError("ClientException", "Invalid revision number.")
        definition = self._state.definition(given["taskDefinition"])
        definition.update(status="INACTIVE", deregisteredAt=self._state.world.clock.now())
        self._put(definition)
        return {"taskDefinition": _untagged(definition)}

    async def delete_task_definitions(self, given: Members) -> Members:
        """Forget revisions that were deregistered."""
        deleted, failures = [], []
        for reference in given["taskDefinitions"]:
            definition = self._state.definition(reference)
            if definition["status"] == "ACTIVE":
                reason = (
                    "The specified task definition is still in ACTIVE status. Please deregister the target"
                )
                failures.append({"arn": definition["taskDefinitionArn"], "reason": reason})
                continue
            self._state.store.delete("definition", f"{definition['family']}:{definition['revision']}")
            deleted.append({**_untagged(definition), "status": "DELETE_IN_PROGRESS"})
        return {"taskDefinitions": deleted, "failures": failures}


def _untagged(definition: Document) -> Document:
    return shown(definition, {})


def _container(given: Document) -> Document:
    container = {**CONTAINER, **given}
    container["portMappings"] = [
        {"hostPort": mapping.get("containerPort"), "protocol": "tcp", **mapping}
        for mapping in container["portMappings"]
    ]
    return container


def _check(given: Members) -> None:
    """Refuse what AWS refuses, and what could not be run here as it says.

    Raises:
        AwsError: it is one of the two.
    """
    containers = given["containerDefinitions"]
    if not containers:
        raise AwsError("ClientException", "Container definitions cannot be empty.")
    names = [container.get("name") for container in containers]
    if None in names or len(set(names)) < len(names):
        raise AwsError("ClientException", "Container names must be given, and must be unique.")
    for container in containers:
        if not container.get("image"):
            raise AwsError("ClientException", "Container.image should not be null or empty.")
        for name in UNKNOWN:
            if container.get(name):
                raise AwsError("ClientException", f"{name} of container {container['name']} is not emulated.")
        _check_log(container.get("logConfiguration"))
        if len(container.get("portMappings", [])) > 1:
            raise AwsError("ClientException", "More than one port of a container is not emulated.")
        for other in container.get("dependsOn", []):
            if other["containerName"] not in names:
                raise AwsError("ClientException", "The container dependsOn a container that is not defined.")
    if not any(container.get("essential", True) for container in containers):
        raise AwsError("ClientException", "At least one container in the task definition must be essential.")
    if "FARGATE" in given.get("requiresCompatibilities", []):
        _check_fargate(given)


def _check_log(config: Document | None) -> None:
    if config is None:
        return
    if config["logDriver"] != "awslogs":
        raise AwsError("ClientException", f"Log driver {config['logDriver']} is not emulated.")
    if missing := [option for option in AWSLOGS if not config.get("options", {}).get(option)]:
        raise AwsError("ClientException", f"Log driver awslogs requires options: {', '.join(missing)}")


def _check_fargate(given: Members) -> None:
    if given.get("networkMode") != "awsvpc":
        raise AwsError("ClientException", "Fargate only supports network mode 'awsvpc'.")
    if "cpu" not in given or "memory" not in given:
        raise AwsError("ClientException", "Fargate requires task definition to have cpu and memory set.")
    cpu, memory = given["cpu"], given["memory"]
    sizes = [round(gib * 1024) for gib in FARGATE.get(int(cpu), ())] if cpu.isdecimal() else []
    if not (sizes and memory.isdecimal() and sizes[0] <= int(memory) <= sizes[1]):
        raise AwsError(
            "ClientException",
            f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory.",
        )
