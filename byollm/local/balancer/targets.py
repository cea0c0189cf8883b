"""The targets of one target group as they are now: which are healthy, who is asked next."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import httpx

from byollm.local.balancer import attributes
from byollm.local.balancer.state import Document
from byollm.local.clock import Clock

FIRST_CHECK_S = 1.0
HEADERS = {"User-Agent": "ELB-HealthChecker/2.0", "Connection": "close"}

REASONS = {
    "initial": ("Elb.RegistrationInProgress", "Target registration is in progress"),
    "draining": ("Target.DeregistrationInProgress", "Target deregistration is in progress"),
    "unused": (
        "Target.NotInUse",
        "Target group is not configured to receive traffic from the load balancer",
    ),
}


@dataclass(eq=False)
class Target:
    """One address that requests may be sent to.

    Args:
        state: `initial`, `healthy`, `unhealthy` or `draining`.
        streak: how many health checks in a row spoke against the state.
        in_flight: requests that it has not answered in full.
    """

    id: str
    port: int
    state: str = "initial"
    reason: tuple[str, str] = REASONS["initial"]
    streak: int = 0
    in_flight: int = 0

    @property
    def cookie(self) -> str:
        """What a client's cookie says of it, which tells nobody where it is."""
        return hashlib.sha256(f"{self.id}:{self.port}".encode()).hexdigest()


class Targets:
    """The targets of one target group.

    Args:
        document: the group's, read anew for every request and every check, so that changes count at once.
        clock: of the intervals between checks; how long a check may take is in real seconds.
    """

    def __init__(self, document: Document, clock: Clock, client: httpx.AsyncClient) -> None:
        self.document = document
        self._clock, self._client = clock, client
        self._targets: dict[tuple[str, int], Target] = {}
        self._work: dict[Target, asyncio.Task[None]] = {}
        self._turns = count()
        for registered in document["Targets"]:
            self.register(registered["Id"], registered["Port"])

    def __iter__(self) -> Iterator[Target]:
        return iter(list(self._targets.values()))

    def __len__(self) -> int:
        return len(self._targets)

    def register(self, identity: str, port: int) -> None:
        """Take in a target, or take back one that is draining; it gets requests once it is healthy."""
        known = self._targets.get((identity, port))
        if known is not None and known.state != "draining":
            return
        if known is not None:
            self._forget(known)
        target = self._targets[identity, port] = Target(identity, port)
        self._work[target] = asyncio.create_task(self._watch(target))

    def deregister(self, identity: str, port: int) -> None:
        """Send a target nothing more; it is gone when it has answered what it has, or after the delay."""
        target = self._targets.get((identity, port))
        if target is None or target.state == "draining":
            return
        target.state, target.reason = "draining", REASONS["draining"]
        self._work.pop(target).cancel()
        self._work[target] = asyncio.create_task(self._drain(target))

    def choose(self, cookie: str | None = None) -> Target | None:
        """Return the target that the next request goes to: the cookie's if it is healthy; None where none is.

        Where no target is healthy, those that are not are asked all the same, as AWS does.
        """
        able = [target for target in self if target.state == "healthy"]
        able = able or [target for target in self if target.state == "unhealthy"]
        if not able:
            return None
        for target in able:
            if target.cookie == cookie:
                return target
        algorithm = attributes.read("TargetGroup", self.document, "load_balancing.algorithm.type")
        if algorithm == "least_outstanding_requests":
            fewest = min(target.in_flight for target in able)
            return random.choice([target for target in able if target.in_flight == fewest])  # noqa: S311
        if algorithm == "weighted_random":
            return random.choice(able)  # noqa: S311
        return able[next(self._turns) % len(able)]

    async def stop(self) -> None:
        """Check nothing more."""
        work = list(self._work.values())
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    def _forget(self, target: Target) -> None:
        self._targets.pop((target.id, target.port), None)
        self._work.pop(target).cancel()

    async def _drain(self, target: Target) -> None:
        delay = attributes.read("TargetGroup", self.document, "deregistration_delay.timeout_seconds")
        ends = self._clock.now() + int(delay)
        while target.in_flight and self._clock.now() < ends:
            await asyncio.sleep(0.05)
        self._targets.pop((target.id, target.port), None)
        self._work.pop(target, None)

    async def _watch(self, target: Target) -> None:
        # AWS checks a new target from every zone at once, so its first check does not wait for the interval
        while True:
            failed = await self._check(target)
            self._judge(target, failed)
            interval = self.document["HealthCheckIntervalSeconds"]
            await self._clock.sleep(min(interval, FIRST_CHECK_S) if target.state == "initial" else interval)

    def _judge(self, target: Target, failed: tuple[str, str] | None) -> None:
        against = failed is None if target.state == "unhealthy" else failed is not None
        target.streak = target.streak + 1 if against else 0
        if target.state == "initial" and failed is None:
            target.state = "healthy"  # one success is enough for a new target
        elif failed is None and target.streak >= self.document["HealthyThresholdCount"]:
            target.state, target.streak = "healthy", 0
        elif failed is not None and target.streak >= self._patience(target):
            target.state, target.streak = "unhealthy", 0
        if target.state == "initial":
            target.reason = ("Elb.InitialHealthChecking", "Initial health checks in progress")
        elif failed is not None:
            target.reason = failed

    def _patience(self, target: Target) -> int:
        threshold: int = self.document["UnhealthyThresholdCount"]
        interval: int = self.document["HealthCheckIntervalSeconds"]
        # checks of a new target come faster, and are no reason to give it less time
        return (
            round(threshold * interval / min(interval, FIRST_CHECK_S))
            if target.state == "initial"
            else threshold
        )

    async def _check(self, target: Target) -> tuple[str, str] | None:
        """Return what speaks against a target, None for nothing."""
        asked = self.document
        port = target.port if asked["HealthCheckPort"] == "traffic-port" else asked["HealthCheckPort"]
        url = f"http://{target.id}:{port}{asked['HealthCheckPath']}"
        patience = asked["HealthCheckTimeoutSeconds"]
        try:
            async with asyncio.timeout(patience):
                response = await self._client.get(url, headers=HEADERS, timeout=patience)
        except (TimeoutError, httpx.TimeoutException):
            return "Target.Timeout", "Request timed out"
        except (httpx.HTTPError, httpx.InvalidURL):
            return "Target.FailedHealthChecks", "Health checks failed"
        if not matches(asked["Matcher"]["HttpCode"], response.status_code):
            return (
                "Target.ResponseCodeMismatch",
                f"Health checks failed with these codes: [{response.status_code}]",
            )
        return None


def matches(codes: str, status: int) -> bool:
    """Tell whether a status is among `codes`, such as `200`, `200,202` or `200-299`."""
    for part in codes.split(","):
        low, _, high = part.partition("-")
        with contextlib.suppress(ValueError):
            if int(low) <= status <= int(high or low):
                return True
    return False
