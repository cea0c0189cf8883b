"""Elastic Load Balancing: the API, the targets' health and the listeners, put together."""

import asyncio
import contextlib
import logging

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from byollm.local.balancer.balancers import LoadBalancerOperations
from byollm.local.balancer.certificate import certificate
from byollm.local.balancer.counts import Counts
from byollm.local.balancer.exchange import make_transport
from byollm.local.balancer.groups import TargetGroupOperations
from byollm.local.balancer.listener import Listener
from byollm.local.balancer.listeners import ListenerOperations
from byollm.local.balancer.query import QueryService
from byollm.local.balancer.serving import bind
from byollm.local.balancer.state import Document, State
from byollm.local.balancer.targets import Targets
from byollm.local.metrics import Metrics
from byollm.local.protocol import AwsError
from byollm.local.world import World

log = logging.getLogger(__name__)

FIRST_PORT = 100  # above the world's own
PORTS = 100
METRICS_EVERY_S = 60.0


class Balancers:
    """Application load balancers that listen on this machine.

    A balancer's `DNSName` is `localhost:<port>`, where its first listener is; others are on ports beside it.

    Args:
        world: where it stands.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._state = State(world.store("balancer"))
        self._groups: dict[str, Targets] = {}
        self._listeners: dict[str, Listener] = {}
        self._counts = Counts(Metrics(world))
        api = QueryService(
            "elbv2",
            LoadBalancerOperations(world, self._state, self._next_port, self._remove),
            TargetGroupOperations(world, self._state, self._groups, self._watch),
            ListenerOperations(world, self._state, self._serve, self._remove, self._next_port),
        )
        self.app = Starlette(routes=[Route("/", api.answer, methods=["POST"])])

    async def start(self) -> None:
        """Check the targets and open the listeners that there were."""
        self._way = make_transport()
        self._checks = httpx.AsyncClient(transport=make_transport(), trust_env=False)
        for group in self._state.every("TargetGroup"):
            self._groups[group["TargetGroupArn"]] = self._watch(group)
        for listener in self._state.every("Listener"):
            await self._serve(listener)
        self._publishing = asyncio.create_task(self._publish())

    async def stop(self) -> None:
        """Close the listeners."""
        self._publishing.cancel()
        await asyncio.gather(
            self._publishing,
            *(listener.stop() for listener in self._listeners.values()),
            *(targets.stop() for targets in self._groups.values()),
            return_exceptions=True,
        )
        await self._way.aclose()
        await self._checks.aclose()
        self._state.close()

    def _watch(self, group: Document) -> Targets:
        return Targets(group, self._world.clock, self._checks)

    async def _serve(self, document: Document) -> None:
        """Open a listener, in place of the one that it was."""
        arn = document["ListenerArn"]
        if arn in self._listeners:
            await self._listeners.pop(arn).stop()
        tls = certificate(self._world.directory / "tls") if document["Protocol"] == "HTTPS" else None
        try:
            bind(document["LocalPort"]).close()
        except OSError as error:
            self._move(document, error)
        self._listeners[arn] = Listener(
            arn, self._state, self._groups.__getitem__, self._way, self._counts, tls
        )

    def _move(self, listener: Document, error: OSError) -> None:
        """Give a listener another port: somebody has taken its own while this process was not there."""
        balancer = self._state.find("LoadBalancer", listener["LoadBalancerArn"])
        before, after = listener["LocalPort"], self._next_port()
        log.warning(
            "port %s of %s: %s; it is %s now", before, balancer["LoadBalancerName"], error.strerror, after
        )
        listener["LocalPort"] = after
        self._state.put("Listener", listener)
        if balancer["LocalPort"] == before:
            balancer.update(LocalPort=after, DNSName=f"localhost:{after}")
            self._state.put("LoadBalancer", balancer)

    async def _remove(self, arn: str) -> None:
        for rule in self._state.every("Rule", ListenerArn=arn):
            self._state.delete("Rule", rule["RuleArn"])
        self._state.delete("Listener", arn)
        if arn in self._listeners:
            await self._listeners.pop(arn).stop()

    def _next_port(self) -> int:
        given = {
            document["LocalPort"]
            for document in (*self._state.every("LoadBalancer"), *self._state.every("Listener"))
        }
        first = self._world.port + FIRST_PORT
        for port in range(first, min(first + PORTS, 2**16)):
            if port not in given:
                with contextlib.suppress(OSError):
                    bind(port).close()
                    return port
        raise AwsError("TooManyListeners", f"the ports {first} to {first + PORTS} are taken")

    async def _publish(self) -> None:
        while True:
            await self._world.clock.sleep(METRICS_EVERY_S)
            self._count_hosts()
            self._counts.publish()

    def _count_hosts(self) -> None:
        for arn, targets in self._groups.items():
            for balancer in self._state.balancers_of(arn):
                documents = (self._state.find("LoadBalancer", balancer), targets.document)
                states = [target.state for target in targets]
                self._counts.add("HealthyHostCount", states.count("healthy"), *documents)
                self._counts.add("UnHealthyHostCount", states.count("unhealthy"), *documents)
