"""The tasks that run, and the operations on them."""

import asyncio
import secrets
from collections.abc import Callable

from byollm.local.containers import Containers
from byollm.local.ecs.connect import Connect
from byollm.local.ecs.state import Document, State, page, shown
from byollm.local.ecs.targets import HOST, detach
from byollm.local.ecs.task import Task
from byollm.local.protocol import AwsError, Members

MOST = 10  # of one RunTask
KEPT_S = 3600  # for which AWS still tells of a task that has stopped
STOPPED = "The emulated AWS was stopped."


class Tasks:
    """Starts tasks, and knows those that run."""

    def __init__(self, state: State, containers: Containers, connect: Connect) -> None:
        self._state, self._containers, self._connect = state, containers, connect
        self._live: dict[str, Task] = {}

    async def bury(self) -> None:
        """Note that the tasks that ran when the process last ended have ended with it."""
        places = []
        for task in self._state.tasks():
            places += task["_targets"]
            if task["lastStatus"] != "STOPPED":
                task = _ended(task, STOPPED, self._state.world.clock.now())
            self._state.put_task({**task, "_targets": []})
        await detach(self._state.world, places)

    def start(
        self,
        cluster: Document,
        definition: Document,
        members: Document,
        *,
        balancers: list[Document] | None = None,
        namespace: str = "",
        changed: Callable[[], None] = lambda: None,
    ) -> Task:
        """Start a task.

        Args:
            members: what else its document says, such as `startedBy`.
            changed: is called whenever its status is another.
        """
        self._forget()
        identity = secrets.token_hex(16)
        path = f"{cluster['clusterName']}/{identity}"
        arn = self._state.arn(f"task/{path}")
        now = self._state.world.clock.now()
        document = {
            "taskArn": arn,
            "clusterArn": cluster["clusterArn"],
            "taskDefinitionArn": definition["taskDefinitionArn"],
            "lastStatus": "PROVISIONING",
            "desiredStatus": "RUNNING",
            "launchType": "FARGATE",
            "platformVersion": "1.4.0",
            "platformFamily": "Linux",
            "connectivity": "DISCONNECTED",
            "healthStatus": "UNKNOWN",
            "availabilityZone": f"{self._state.world.region}a",
            "cpu": definition.get("cpu", "256"),
            "memory": definition.get("memory", "512"),
            "createdAt": now,
            "version": 1,
            "attachments": [],
            "containers": [],
            "tags": [],
            **members,
        }
        task = Task(
            self._state,
            self._containers,
            self._connect,
            document,
            definition,
            balancers or [],
            namespace,
            changed,
        )
        document["containers"] = [
            {
                "containerArn": self._state.arn(f"container/{path}/{one['name']}"),
                "taskArn": arn,
                "name": one["name"],
                "image": one["image"],
                "lastStatus": "PENDING",
                "healthStatus": "UNKNOWN",
                "cpu": str(one["cpu"]),
                "networkInterfaces": [{"privateIpv4Address": HOST}],
                # on AWS a task has its own address, and the container's port there
                "networkBindings": [
                    {
                        "bindIP": HOST,
                        "containerPort": mapping["containerPort"],
                        "hostPort": task.ports[one["name"]],
                        "protocol": "tcp",
                    }
                    for mapping in one["portMappings"]
                ],
            }
            for one in definition["containerDefinitions"]
        ]
        self._state.put_task(document)
        self._live[identity] = task
        return task

    def _forget(self) -> None:
        before = self._state.world.clock.now() - KEPT_S
        for task in self._state.tasks(lastStatus="STOPPED"):
            if task["stoppedAt"] < before:
                identity = task["taskArn"].rpartition("/")[2]
                self._state.store.delete("task", identity)
                self._live.pop(identity, None)

    def get(self, reference: str) -> Task | None:
        """Return a task of this process by its id or ARN."""
        return self._live.get(reference.rpartition("/")[2])

    def running(self) -> list[Task]:
        """Return the tasks that have not ended."""
        return [task for task in self._live.values() if not task.ended]

    async def stop(self) -> None:
        """End all tasks, soon."""
        running = self.running()
        for task in running:
            task.stop("TerminationNotice", STOPPED, soon=True)
        await asyncio.gather(*(task.wait() for task in running), return_exceptions=True)


class TaskOperations:
    """RunTask and its neighbours."""

    def __init__(self, state: State, tasks: Tasks) -> None:
        self._state, self._tasks = state, tasks

    async def run_task(self, given: Members) -> Members:
        """Start tasks that no service looks after."""
        cluster = self._state.cluster(given.get("cluster"))
        definition = self._state.definition(given["taskDefinition"])
        if definition["status"] != "ACTIVE":
            raise AwsError("InvalidParameterException", "TaskDefinition is inactive")
        check_network(definition, given)
        count = given.get("count", 1)
        if not 1 <= count <= MOST:
            raise AwsError("InvalidParameterException", f"count must be between 1 and {MOST}.")
        overrides = given.get("overrides", {})
        started = [
            self._tasks.start(
                cluster,
                overridden(definition, overrides),
                {
                    "group": given.get("group", f"family:{definition['family']}"),
                    "startedBy": given.get("startedBy", ""),
                    "overrides": overrides,
                    "tags": given.get("tags", []),
                },
            )
            for _ in range(count)
        ]
        return {"tasks": [shown(task.shown()) for task in started], "failures": []}

    async def stop_task(self, given: Members) -> Members:
        """Have a task end; its service starts another."""
        self._state.cluster(given.get("cluster"))
        task = self._tasks.get(given["task"])
        if task is None:
            raise AwsError("InvalidParameterException", "The referenced task was not found.")
        task.stop("UserInitiated", given.get("reason", "Task stopped by user"))
        return {"task": shown(task.shown())}

    async def describe_tasks(self, given: Members) -> Members:
        """Tell of tasks, for an hour after they have stopped."""
        cluster = self._state.cluster(given.get("cluster"))
        found, failures = [], []
        for reference in given["tasks"]:
            identity = reference.rpartition("/")[2]
            task = self._tasks.get(identity)
            document = task.shown() if task else self._state.store.get("task", identity)
            if document is None or document["clusterArn"] != cluster["clusterArn"]:
                arn = self._state.arn(f"task/{cluster['clusterName']}/{identity}")
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(shown(document, given))
        return {"tasks": found, "failures": failures}

    async def list_tasks(self, given: Members) -> Members:
        """List tasks that run, or that have stopped where those are asked for."""
        cluster = self._state.cluster(given.get("cluster"))
        asked = {"clusterArn": cluster["clusterArn"], "desiredStatus": given.get("desiredStatus", "RUNNING")}
        if "serviceName" in given:
            asked["group"] = f"service:{given['serviceName'].rpartition('/')[2]}"
        if "startedBy" in given:
            asked["startedBy"] = given["startedBy"]
        found = self._state.tasks(**asked)
        if "family" in given:
            found = [task for task in found if f"/{given['family']}:" in task["taskDefinitionArn"]]
        return page("taskArns", [task["taskArn"] for task in found], given)


def check_network(definition: Document, given: Members) -> None:
    """Refuse what has no network configuration though its tasks need one.

    Raises:
        AwsError: that is so.
    """
    if definition.get("networkMode") == "awsvpc" and "networkConfiguration" not in given:
        raise AwsError(
            "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        )


def overridden(definition: Document, overrides: Document) -> Document:
    """Return a definition with what RunTask says otherwise."""
    by_name = {one["name"]: one for one in overrides.get("containerOverrides", [])}
    containers = []
    for container in definition["containerDefinitions"]:
        other = by_name.pop(container["name"], {})
        names = {one["name"] for one in other.get("environment", [])}
        kept = [one for one in container["environment"] if one["name"] not in names]
        containers.append(
            {
                **container,
                **({"command": other["command"]} if "command" in other else {}),
                "environment": [*kept, *other.get("environment", [])],
            }
        )
    if by_name:
        raise AwsError(
            "InvalidParameterException", f"Override for container named {min(by_name)} is not a container."
        )
    roles: Document = {
        name: overrides[name] for name in ("taskRoleArn", "executionRoleArn") if name in overrides
    }
    return {**definition, "containerDefinitions": containers, **roles}


def _ended(task: Document, reason: str, now: float) -> Document:
    containers = [{**one, "lastStatus": "STOPPED"} for one in task["containers"]]
    return {
        **task,
        "containers": containers,
        "lastStatus": "STOPPED",
        "desiredStatus": "STOPPED",
        "stopCode": "TerminationNotice",
        "stoppedReason": reason,
        "stoppedAt": now,
    }
