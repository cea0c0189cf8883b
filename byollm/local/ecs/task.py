"""One task: its containers from the first to the last of them."""

import asyncio
import time
from collections.abc import Callable
from graphlib import TopologicalSorter

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.containers import Container, ContainerError, Containers, free_port
from byollm.local.ecs import targets
from byollm.local.ecs.connect import Connect
from byollm.local.ecs.environment import Environment, NotStartedError
from byollm.local.ecs.health import Health
from byollm.local.ecs.state import Document, State
from byollm.local.logs import LogStream

STOP_S = 30
# A task that nobody checks works if it has not crashed by then; in real seconds, as it starts no faster.
UNCHECKED_S = 3.0
START_S = 180
SOON_S = 5.0


class Task:
    """A task that runs, or has run.

    Args:
        document: the task as AWS shows it, kept up to date here.
        definition: with what RunTask overrides.
        balancers: the `loadBalancers` of its service.
        namespace: where it finds other services.
        changed: is called whenever its status is another.
    """

    def __init__(
        self,
        state: State,
        containers: Containers,
        connect: Connect,
        document: Document,
        definition: Document,
        balancers: list[Document],
        namespace: str,
        changed: Callable[[], None],
    ) -> None:
        self.id: str = document["taskArn"].rpartition("/")[2]
        self.document, self.definition = document, definition
        self.running: dict[str, Container] = {}
        self.environment = Environment(state.world, self.id, definition)
        self.target_health = "healthy" if not balancers else "initial"
        self._state, self._containers, self._connect = state, containers, connect
        self._namespace, self._changed = namespace, changed
        self._health: dict[str, Health] = {}
        self._watches: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._soon = False
        self._proven_at = 0.0
        names = {
            container["name"] for container in definition["containerDefinitions"] if container["portMappings"]
        }
        self.ports = {name: free_port() for name in sorted(names)}
        document["_targets"] = [
            {"targetGroupArn": one["targetGroupArn"], "port": self.ports[one["containerName"]]}
            for one in balancers
        ]
        self._life = asyncio.create_task(self._run())

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return bool(self.document["lastStatus"] == "STOPPED")

    @property
    def stopping(self) -> bool:
        """Whether it has ended or is about to."""
        return bool(self.document["desiredStatus"] == "STOPPED")

    @property
    def health(self) -> str:
        """What the essential containers' checks say together."""
        said = {
            self._health[one["name"]].status if one["name"] in self._health else "UNKNOWN"
            for one in self.definition["containerDefinitions"]
            if one["essential"] and "healthCheck" in one
        }
        return next((status for status in ("UNHEALTHY", "UNKNOWN", "HEALTHY") if status in said), "UNKNOWN")

    @property
    def ready(self) -> bool:
        """Whether it runs, and every check that there is says that it is healthy."""
        if self.document["lastStatus"] != "RUNNING" or self.stopping:
            return False
        checked = any("healthCheck" in one for one in self.definition["containerDefinitions"])
        if not checked and not self.document["_targets"]:
            return time.monotonic() >= self._proven_at
        return (not checked or self.health == "HEALTHY") and self.target_health == "healthy"

    def stop(self, code: str, reason: str, *, soon: bool = False) -> None:
        """Have it end.

        Args:
            code: one of ECS's stop codes.
            reason: in a sentence.
            soon: whether everything ends, load balancers too: its containers then have seconds only.
        """
        if not self.stopping:
            self.document.update(desiredStatus="STOPPED", stopCode=code, stoppedReason=reason)
            self._soon = soon
            self._stop.set()

    async def wait(self) -> None:
        """Return when it has ended."""
        await asyncio.shield(self._life)

    def shown(self) -> Document:
        """Return it as AWS shows it now."""
        for container in self.document["containers"]:
            if container["name"] in self._health:
                container["healthStatus"] = self._health[container["name"]].status
        self.document["healthStatus"] = self.health
        return self.document

    async def _run(self) -> None:
        starting = asyncio.create_task(self._start())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._proven_at = time.monotonic() + UNCHECKED_S
                self._to("RUNNING", startedAt=self._now())
                await targets.attach(self._state.world, self.document["_targets"])
                await self._until_an_essential_one_ends(stopped)
        except (NotStartedError, BotoCoreError, ClientError) as error:
            self.stop("TaskFailedToStart", str(error))
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._end()
            stopped.cancel()

    async def _start(self) -> None:
        self._to("PENDING", pullStartedAt=self._now())
        await self.environment.check_roles()
        defined = {one["name"]: one for one in self.definition["containerDefinitions"]}
        needed = {
            name: {other["containerName"] for other in one.get("dependsOn", [])}
            for name, one in defined.items()
        }
        for name in TopologicalSorter(needed).static_order():
            try:
                async with asyncio.timeout(defined[name].get("startTimeout", START_S)):
                    await self._dependencies(defined[name])
            except TimeoutError:
                raise NotStartedError(f"the containers that {name} depends on did not become ready") from None
            await self._start_container(defined[name])

    async def _dependencies(self, definition: Document) -> None:
        for other in definition.get("dependsOn", []):
            name = other["containerName"]
            container = self.running[name]
            if other["condition"] in {"COMPLETE", "SUCCESS"}:
                code = await container.wait()
                if code and other["condition"] == "SUCCESS":
                    raise NotStartedError(f"container {name} exited with {code}")
            while other["condition"] == "HEALTHY" and self._health[name].status != "HEALTHY":
                await asyncio.sleep(0.05)

    async def _start_container(self, definition: Document) -> None:
        name = definition["name"]
        environment = self._connect.rewritten(await self.environment.of(definition), self._namespace)
        try:
            container = await self._containers.start(
                definition["image"],
                definition.get("command", []),
                log=self._log(definition),
                environment=environment,
                port=self.ports.get(name),
            )
        except ContainerError as error:
            raise NotStartedError(f"CannotPullContainerError: {error}") from None
        except OSError as error:  # such as a full disk
            raise NotStartedError(f"CannotStartContainerError: {error}") from None
        self.running[name] = container
        self._container(name, lastStatus="RUNNING", runtimeId=f"{self.id}-{container.pid}")
        if "healthCheck" in definition:
            self._health[name] = Health(definition, container, self._state.world.clock)
            self._watches.append(asyncio.create_task(self._health[name].watch()))

    def _log(self, definition: Document) -> LogStream:
        """Say where a container writes to, which AWS does where the definition says so."""
        own = f"{definition['name']}/{self.id}"
        if "logConfiguration" not in definition:
            return LogStream(f"/aws/ecs/{self.definition['family']}", own, sent=False)
        options = definition["logConfiguration"]["options"]
        return LogStream(options["awslogs-group"], f"{options['awslogs-stream-prefix']}/{own}")

    async def _until_an_essential_one_ends(self, stopped: asyncio.Task[bool]) -> None:
        ends = {
            asyncio.create_task(self.running[one["name"]].wait()): one
            for one in self.definition["containerDefinitions"]
        }
        waiting: set[asyncio.Task[bool] | asyncio.Task[int]] = {*ends, stopped}
        try:
            while not self.stopping:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in (definition for task, definition in ends.items() if task in done):
                    self._container(
                        one["name"], lastStatus="STOPPED", exitCode=self.running[one["name"]].exit_code
                    )
                    if one["essential"]:
                        self.stop("EssentialContainerExited", "Essential container in task exited")
        finally:
            for task in ends:
                task.cancel()

    async def _end(self) -> None:
        self._to("DEACTIVATING", stoppingAt=self._now())
        for watch in self._watches:
            watch.cancel()
        if not self._soon:
            await targets.detach(self._state.world, self.document["_targets"])
            self.document["_targets"] = []
        self._to("STOPPING")
        await asyncio.gather(*(self._stop_container(name) for name in self.running))
        self._to("STOPPED", stoppedAt=self._now(), executionStoppedAt=self._now())

    async def _stop_container(self, name: str) -> None:
        defined = next(one for one in self.definition["containerDefinitions"] if one["name"] == name)
        code = await self.running[name].stop(SOON_S if self._soon else defined.get("stopTimeout", STOP_S))
        self._container(name, lastStatus="STOPPED", exitCode=code)

    def _container(self, name: str, **members: object) -> None:
        next(one for one in self.document["containers"] if one["name"] == name).update(members)

    def _to(self, status: str, **members: object) -> None:
        self.document.update(lastStatus=status, **members)
        self.document["version"] += 1
        if status == "RUNNING":
            self.document["connectivity"] = "CONNECTED"
        self._state.put_task(self.document)
        self._changed()

    def _now(self) -> float:
        return self._state.world.clock.now()
