"""Keeps one service at what it asks for: healthy tasks of the newest definition, as many as desired."""

import asyncio
import contextlib
import logging
import secrets

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.ecs import targets
from byollm.local.ecs.rollout import backoff_s, next_step, tolerated
from byollm.local.ecs.state import Document, State
from byollm.local.ecs.task import Task
from byollm.local.ecs.tasks import Tasks
from byollm.local.protocol import AwsError

log = logging.getLogger(__name__)

PACE_S = 0.25
STEADY_PACE_S = 1.0
EVENTS = 100
FAILED_TO_START = "ECS deployment circuit breaker: tasks failed to start."
OWN_FAULT = {"TaskFailedToStart", "EssentialContainerExited"}


class Scheduler:
    """The scheduler of one service.

    Args:
        service: the living document, which `State` keeps.
    """

    def __init__(self, state: State, tasks: Tasks, service: Document) -> None:
        self.service = service
        self._state, self._tasks = state, tasks
        self._mine: dict[Task, None] = {}  # in the order of their starts
        self._unhealthy: set[Task] = set()
        self._proven: set[Task] = set()
        self._failures = 0
        self._start_after = 0.0
        self._woken = asyncio.Event()
        self._work = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Look at once: something has changed."""
        self._woken.set()

    async def stop(self) -> None:
        """Look after the service no more; its tasks go on."""
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)

    def ready_ports(self, port_name: str) -> list[int]:
        """Return where the tasks listen that are ready, on the port of that name."""
        return [
            task.ports[container["name"]]
            for task in self._mine
            if task.ready
            for container in task.definition["containerDefinitions"]
            for mapping in container["portMappings"]
            if mapping.get("name") == port_name
        ]

    def shown(self) -> Document:
        """Return the service with what runs of it now."""
        for deployment in self.service["deployments"]:
            tasks = [task for task in self._of(deployment) if not task.stopping]
            running = sum(task.document["lastStatus"] == "RUNNING" for task in tasks)
            deployment.update(runningCount=running, pendingCount=len(tasks) - running)
        for count in ("runningCount", "pendingCount"):
            self.service[count] = sum(one[count] for one in self.service["deployments"])
        return self.service

    def say(self, message: str) -> None:
        """Note an event of the service."""
        event = {
            "id": secrets.token_hex(16),
            "createdAt": self._state.world.clock.now(),
            "message": f"(service {self.service['serviceName']}) {message}",
        }
        self.service["events"] = [event, *self.service["events"]][:EVENTS]
        self._state.put_service(self.service)

    def _of(self, deployment: Document) -> list[Task]:
        return [
            task for task in self._mine if task.document["startedBy"] == deployment["id"] and not task.ended
        ]

    async def _run(self) -> None:
        while self.service["status"] != "INACTIVE":
            try:
                await self._look()
            except (AwsError, BotoCoreError, ClientError) as error:
                log.warning("service %s: %s", self.service["serviceName"], error)
            settled = self.service["deployments"][0]["rolloutState"] != "IN_PROGRESS"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), STEADY_PACE_S if settled else PACE_S)
            self._woken.clear()

    async def _look(self) -> None:
        self._count_ends()
        if self.service["status"] == "DRAINING":
            for task in self._mine:
                self._dismiss(task, "Service was deleted.")
            if not self._mine:
                self.service["status"] = "INACTIVE"
                self._state.put_service(self.service)
            return
        await self._ask_balancers()
        self._end_unhealthy()
        primary = self.service["deployments"][0]
        if primary["rolloutState"] == "IN_PROGRESS":
            await self._break_off(primary)
            primary = self.service["deployments"][0]
        if primary["rolloutState"] != "FAILED":
            self._take_step(primary)
            self._conclude(primary)

    def _count_ends(self) -> None:
        """Note which tasks have ended, and whether they failed."""
        primary = self.service["deployments"][0]
        for task in [task for task in self._mine if task.ended]:
            del self._mine[task]
            if task.document["stopCode"] in OWN_FAULT or task in self._unhealthy:
                self._failures += 1
                self._start_after = self._state.world.clock.now() + backoff_s(self._failures)
                self.say(f"(task {task.id}) stopped: {task.document['stoppedReason']}")
                if task.document["startedBy"] == primary["id"] and primary["rolloutState"] == "IN_PROGRESS":
                    primary["failedTasks"] += 1
        for task in self._mine:
            if task.ready and task not in self._proven:
                self._proven.add(task)
                self._failures = 0
                if self._breaker.get("resetOnHealthyTask", True):
                    primary["failedTasks"] = 0
        self._proven &= set(self._mine)
        self._unhealthy &= set(self._mine)

    @property
    def _breaker(self) -> Document:
        breaker: Document = self.service["deploymentConfiguration"].get("deploymentCircuitBreaker", {})
        return breaker

    async def _ask_balancers(self) -> None:
        for group in {one["targetGroupArn"] for one in self.service["loadBalancers"]}:
            states = await targets.states(self._state.world, group)
            for task in self._mine:
                for place in task.document["_targets"]:
                    if place["targetGroupArn"] == group:
                        found = states.get(place["port"], {"State": "initial"})
                        task.target_health = found["State"]

    def _end_unhealthy(self) -> None:
        grace, now = self.service.get("healthCheckGracePeriodSeconds", 0), self._state.world.clock.now()
        for task in self._mine:
            if task.stopping or task.document["lastStatus"] != "RUNNING":
                continue
            if now < task.document["startedAt"] + grace:
                continue
            if task.health == "UNHEALTHY":
                reason = "Task failed container health checks"
            elif task.target_health == "unhealthy":
                groups = ", ".join(place["targetGroupArn"] for place in task.document["_targets"])
                reason = f"Task failed ELB health checks in (target-group {groups})"
            else:
                continue
            self._unhealthy.add(task)
            task.stop("ServiceSchedulerInitiated", reason)

    async def _break_off(self, primary: Document) -> None:
        """End a deployment that has failed, and go back to the last that had not where that is asked for."""
        configuration = self.service["deploymentConfiguration"]
        alarms = configuration.get("alarms", {})
        if self._breaker.get("enable") and primary["failedTasks"] >= tolerated(
            self.service["desiredCount"], self._breaker
        ):
            reason, rollback = FAILED_TO_START, self._breaker.get("rollback", False)
        elif alarms.get("enable") and (ringing := await self._ringing(alarms["alarmNames"])):
            reason, rollback = f"ECS deployment alarms: {ringing} is in ALARM.", alarms.get("rollback", False)
        else:
            return
        now = self._state.world.clock.now()
        primary.update(rolloutState="FAILED", rolloutStateReason=reason, updatedAt=now)
        self.say(f"(deployment {primary['id']}) deployment failed: {reason}")
        before = next(
            (one for one in self.service["deployments"] if one["rolloutState"] == "COMPLETED"), None
        )
        if not rollback or before is None:
            return
        primary.update(status="ACTIVE", desiredCount=0)
        before.update(
            status="PRIMARY",
            desiredCount=self.service["desiredCount"],
            failedTasks=0,
            rolloutState="IN_PROGRESS",
            rolloutStateReason=f"{reason} Rolling back to deploymentId {before['id']}.",
            updatedAt=now,
        )
        self._failures, self._start_after = 0, 0.0
        self.service["deployments"].remove(before)
        self.service["deployments"].insert(0, before)
        self.service["taskDefinition"] = before["taskDefinition"]
        self.say(f"rolling back to deployment {before['id']}.")

    async def _ringing(self, alarms: list[str]) -> str | None:
        answer = await self._state.world.call(
            "cloudwatch", "describe_alarms", AlarmNames=alarms, StateValue="ALARM"
        )
        return next((alarm["AlarmName"] for alarm in answer["MetricAlarms"]), None)

    def _take_step(self, primary: Document) -> None:
        desired = self.service["desiredCount"]
        staying = [task for task in self._mine if not task.stopping]
        new = [task for task in staying if task.document["startedBy"] == primary["id"]]
        old = [task for task in staying if task.document["startedBy"] != primary["id"]]
        step = next_step(desired, self.service["deploymentConfiguration"], new, old)
        for task in step.stop:
            self._dismiss(task, f"Scaling activity initiated by (deployment {primary['id']})")
        if step.start and self._state.world.clock.now() >= self._start_after:
            started = [self._start(primary) for _ in range(step.start)]
            names = " ".join(f"(task {task.id})" for task in started)
            self.say(f"has started {len(started)} tasks: {names}.")

    def _dismiss(self, task: Task, reason: str) -> None:
        if not task.stopping:
            task.stop("ServiceSchedulerInitiated", reason)
            self.say(f"has stopped 1 running tasks: (task {task.id}).")

    def _start(self, primary: Document) -> Task:
        service = self.service
        cluster = self._state.cluster(service["clusterArn"])
        definition = self._state.definition(primary["taskDefinition"])
        source = {"SERVICE": service, "TASK_DEFINITION": definition}.get(
            service.get("propagateTags", "NONE"), {}
        )
        task = self._tasks.start(
            cluster,
            definition,
            {
                "group": f"service:{service['serviceName']}",
                "startedBy": primary["id"],
                "overrides": {},
                "tags": source.get("tags", []),
            },
            balancers=service["loadBalancers"],
            namespace=namespace_of(cluster, primary),
            changed=self.wake,
        )
        self._mine[task] = None
        return task

    def _conclude(self, primary: Document) -> None:
        """Note that a deployment is done once all tasks are its own, and are ready."""
        if primary["rolloutState"] != "IN_PROGRESS":
            return
        new = self._of(primary)
        if len(new) != len(self._mine) or len(new) != self.service["desiredCount"]:
            return
        if all(task.ready for task in new):
            primary.update(
                rolloutState="COMPLETED",
                rolloutStateReason=f"ECS deployment {primary['id']} completed.",
                updatedAt=self._state.world.clock.now(),
            )
            self.service["deployments"] = [primary]
            self.say(f"(deployment {primary['id']}) deployment completed.")
            self.say("has reached a steady state.")


def namespace_of(cluster: Document, deployment: Document) -> str:
    """Return where the tasks of a deployment find other services."""
    configuration = deployment.get("serviceConnectConfiguration", {})
    if not configuration.get("enabled"):
        return ""
    default = cluster.get("serviceConnectDefaults", {}).get("namespace", "")
    return str(configuration.get("namespace", default))
