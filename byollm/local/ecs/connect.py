"""Service Connect: behind a name such as `gateway:8000` are the tasks of a service.

Nothing resolves names for plain processes: where such a name stands in a variable of a task, the task gets an
address of this machine in its place.
"""

import asyncio
import re
from collections.abc import Callable
from itertools import count

import httpx
from starlette.types import Receive, Scope, Send

from byollm.local.balancer.exchange import (
    BadAnswerError,
    ClientGoneError,
    Exchange,
    answer,
    end_to_end,
    make_transport,
)
from byollm.local.balancer.serving import Serving
from byollm.local.balancer.targets import Target
from byollm.local.containers import free_port
from byollm.local.ecs.state import Document, State

# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TimeoutConfiguration.html
IDLE_S = 300
REQUEST_S = 15


class Connect:
    """The names under which services find each other.

    Args:
        state: remembers where a name is, so that it is there again after a restart.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._served: dict[str, tuple[_Alias, Serving]] = {}

    async def offer(
        self, namespace: str, service: Document, port_name: str, ports: Callable[[], list[int]], *, http: bool
    ) -> None:
        """Serve the names of one port of a service.

        Args:
            service: its entry in the service's `serviceConnectConfiguration`.
            ports: says where the tasks are that are ready.
            http: whether the port's `appProtocol` says so; other protocols have no limit for a request.
        """
        for key in _names(namespace, service, port_name):
            found = _Alias(ports, service.get("timeout", {}), http=http)
            if key in self._served:
                self._served[key][0].become(found)
                continue
            known = self._state.store.get("alias", key)
            port = known["port"] if known else free_port()
            try:
                serving = Serving(found, port)
            except OSError:
                port = free_port()
                serving = Serving(found, port)
            self._served[key] = found, serving
            self._state.store.put("alias", key, {"port": port})

    async def withdraw(self, namespace: str, service: Document, port_name: str) -> None:
        """Serve the names of one port of a service no more."""
        for key in _names(namespace, service, port_name):
            if key in self._served:
                await self._served.pop(key)[1].stop()
                self._state.store.delete("alias", key)

    def rewritten(self, environment: dict[str, str], namespace: str) -> dict[str, str]:
        """Return variables in which names of the namespace are addresses of this machine."""
        changed = dict(environment)
        for key in self._served:
            space, _, name = key.rpartition("/")
            if space != namespace:
                continue
            host, _, port = name.rpartition(":")
            local = self._state.store.get("alias", key)
            assert local is not None
            there = rf"//{re.escape(host)}{'(:80)?' if port == '80' else f':{port}'}(?![\w.:-])"
            for variable, value in changed.items():
                changed[variable] = re.sub(there, f"//127.0.0.1:{local['port']}", value)
        return changed

    async def stop(self) -> None:
        """Serve nothing more."""
        await asyncio.gather(*(serving.stop() for _, serving in self._served.values()))


def _names(namespace: str, service: Document, port_name: str) -> list[str]:
    usual = f"{service.get('discoveryName', port_name)}.{namespace}"
    return [
        f"{namespace}/{alias.get('dnsName', usual)}:{alias['port']}"
        for alias in service.get("clientAliases", [])
    ]


class _Alias:
    def __init__(self, ports: Callable[[], list[int]], timeout: Document, *, http: bool) -> None:
        self._ports, self._turns, self._way = ports, count(), make_transport()
        self._idle_s = timeout.get("idleTimeoutSeconds", IDLE_S) or None
        self._request_s = (timeout.get("perRequestTimeoutSeconds", REQUEST_S) or None) if http else None

    def become(self, other: "_Alias") -> None:
        """Serve from the next request on as another does."""
        self._ports, self._idle_s, self._request_s = other._ports, other._idle_s, other._request_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ports = self._ports()
        if not ports:
            await answer(send, 503, b"no healthy upstream")
            return
        target = Target("127.0.0.1", ports[next(self._turns) % len(ports)])
        exchange = Exchange(scope, receive, send, self._idle_s)
        try:
            async with asyncio.timeout(self._request_s):
                await exchange.relay(self._way, target, end_to_end(scope["headers"]), [])
        except BadAnswerError as error:
            await answer(send, error.status, b"upstream error")
        except TimeoutError:
            if exchange.status is None:
                await answer(send, 504, b"upstream request timeout")
        except (ClientGoneError, httpx.HTTPError):
            return  # the answer had begun: the connection is closed, which tells the client
