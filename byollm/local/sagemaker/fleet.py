"""A fleet: so many instances of one container, kept alive."""

import asyncio
import logging
import random
import uuid
from dataclasses import dataclass, field

from byollm.local.containers import ContainerError, Containers, Mount, free_port
from byollm.local.logs import LogStream
from byollm.local.sagemaker.instance import Instance
from byollm.local.sagemaker.model_files import ModelFiles, ModelFilesError
from byollm.local.sagemaker.plan import ContainerPlan
from byollm.local.world import World
from byollm.settings.errors import ByollmError

log = logging.getLogger(__name__)

CRASHES = 3
"""Times that a container may end before its first good health check."""
AGAIN_S = 10.0


class FleetError(ByollmError):
    """Instances do not come up; the message is AWS's FailureReason."""


@dataclass(frozen=True)
class Yard:
    """What fleets are made with."""

    world: World
    containers: Containers
    files: ModelFiles


@dataclass(eq=False)
class _Slot:
    """The place of one instance, whose container may be replaced."""

    name: str
    up: "asyncio.Future[None]"
    keeper: "asyncio.Task[None]" = field(init=False)
    instance: Instance | None = None


class Fleet:
    """Instances of one container.

    Args:
        yard: what they are made with.
        plan: what they run.
        group: the log group, such as `/aws/sagemaker/Endpoints/<endpoint>`.
        variant: the name of the variant, with which log streams begin.
        words: what AWS's errors call it, such as `production variant main`.
        strategy: how an instance is chosen.
    """

    def __init__(
        self, yard: Yard, plan: ContainerPlan, *, group: str, variant: str, words: str, strategy: str
    ) -> None:
        self._yard, self._plan = yard, plan
        self.group, self._variant, self._words, self._strategy = group, variant, words, strategy
        self._slots: list[_Slot] = []

    @property
    def ready(self) -> list[Instance]:
        """Those that answer."""
        return [slot.instance for slot in self._slots if slot.instance is not None]

    def pick(self) -> Instance | None:
        """Choose an instance for a request; None if none is ready."""
        ready = self.ready
        if not ready:
            return None
        random.shuffle(ready)
        if self._strategy == "RANDOM":
            return ready[0]
        return min(ready, key=lambda instance: instance.outstanding)

    async def scale(self, count: int) -> None:
        """Return when there are `count` instances, the new ones ready and the removed ones gone.

        Raises:
            FleetError: new ones did not come up; there are as many as before.
        """
        new = [self._open() for _ in range(count - len(self._slots))]
        try:
            await asyncio.gather(*(slot.up for slot in new))
        except BaseException:
            await self._close(new)
            raise
        idle_first = sorted(self._slots, key=lambda slot: slot.instance.outstanding if slot.instance else -1)
        await self._close(idle_first[: max(0, len(self._slots) - count)])

    async def stop(self) -> None:
        """End every instance."""
        await self._close(list(self._slots))

    def _open(self) -> _Slot:
        slot = _Slot(f"i-{uuid.uuid4().hex[:17]}", asyncio.get_running_loop().create_future())
        slot.keeper = asyncio.create_task(self._keep(slot))
        self._slots.append(slot)
        return slot

    async def _close(self, slots: list[_Slot]) -> None:
        for slot in slots:
            self._slots.remove(slot)
            slot.keeper.cancel()
        await asyncio.gather(*(slot.keeper for slot in slots), return_exceptions=True)
        for slot in slots:
            if slot.up.done() and not slot.up.cancelled():
                slot.up.exception()  # several may fail, and the first was told

    async def _keep(self, slot: _Slot) -> None:
        """Keep one instance in its place, with another container where one ends or no longer answers."""
        while True:
            try:
                slot.instance = await self._bring_up(slot.name)
            except FleetError as error:
                if not slot.up.done():
                    slot.up.set_exception(error)
                    return
                log.warning("%s of %s: %s", slot.name, self._words, error)
                await self._yard.world.clock.sleep(AGAIN_S)
                continue
            if not slot.up.done():
                slot.up.set_result(None)
            instance = slot.instance
            try:
                await instance.until_unhealthy()
                log.warning("%s of %s no longer answers and is replaced", slot.name, self._words)
            finally:
                slot.instance = None
                await asyncio.shield(instance.stop())

    async def _bring_up(self, name: str) -> Instance:
        mounts = await self._mounts()
        try:
            async with asyncio.timeout(self._plan.startup_s / self._yard.world.clock.factor):
                for _ in range(CRASHES):
                    instance = await self._start(name, mounts)
                    well = False
                    try:
                        if well := await instance.until_healthy():
                            return instance
                    finally:
                        if not well:
                            await asyncio.shield(instance.stop())
        except TimeoutError:
            pass
        except (ContainerError, OSError) as error:
            raise FleetError(f"The container for {self._words} cannot be started: {error}") from None
        raise FleetError(
            f"The primary container for {self._words} did not pass the ping health check. "
            "Please check CloudWatch logs for this endpoint."
        )

    async def _start(self, name: str, mounts: list[Mount]) -> Instance:
        world = self._yard.world
        container = await self._yard.containers.start(
            self._plan.image,
            ["serve"],
            log=LogStream(self.group, f"{self._variant}/{name}"),
            environment={
                "AWS_REGION": world.region,
                "AWS_DEFAULT_REGION": world.region,
                **self._plan.environment,
                # The image listens for everybody, since each container has a network of its own: not so here.
                "BYOLLM__SERVER__HOST": "127.0.0.1",
            },
            mounts=mounts,
            port=free_port(),
        )
        return Instance(name, container, world.clock)

    async def _mounts(self) -> list[Mount]:
        if self._plan.model is None:
            return []
        try:
            files = await asyncio.to_thread(self._yard.files.fetch, self._plan.model, self._plan.archive)
        except ModelFilesError as error:
            raise FleetError(
                f'Failed to download model data for {self._words} from URL: "{self._plan.model}". '
                "Please ensure that there is an object located at the URL and that the role passed to "
                f"CreateModel has permissions to download the object. ({error})"
            ) from None
        return [Mount(files, "/opt/ml/model")]
