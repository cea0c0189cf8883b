"""One listener of a load balancer: a real port of this machine, where requests follow its rules."""

import random
import re
import secrets
import time
from collections.abc import Callable
from http.client import responses

import httpx
from starlette.types import Receive, Scope, Send

from byollm.local.balancer import attributes
from byollm.local.balancer.counts import Counts
from byollm.local.balancer.exchange import (
    BadAnswerError,
    ClientGoneError,
    Exchange,
    Headers,
    answer,
    end_to_end,
)
from byollm.local.balancer.rules import Asked, choose, location
from byollm.local.balancer.serving import Serving
from byollm.local.balancer.state import Document, State
from byollm.local.balancer.targets import Target, Targets

STICKY = "AWSALB"
FIELD_NAME = re.compile(rb"[-A-Za-z0-9]+")


class Listener:
    """A listener, serving.

    Args:
        arn: of the listener; what it says is read anew for every request.
        groups: finds the targets of a target group.
        certificate: files of a certificate and its key for HTTPS.
    """

    def __init__(
        self,
        arn: str,
        state: State,
        groups: Callable[[str], Targets],
        way: httpx.AsyncBaseTransport,
        counts: Counts,
        certificate: tuple[str, str] | None,
    ) -> None:
        self._arn, self._state, self._groups, self._way, self._counts = arn, state, groups, way, counts
        self._serving = Serving(self, state.find("Listener", arn)["LocalPort"], certificate)

    async def stop(self) -> None:
        """Take no more requests; those under way have two seconds."""
        await self._serving.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request by the listener's rules."""
        listener = self._state.find("Listener", self._arn)
        balancer = self._state.find("LoadBalancer", listener["LoadBalancerArn"])
        asked = _asked(scope, listener)
        rule = choose(self._state.every("Rule", ListenerArn=self._arn), asked)
        action = rule["Actions"][-1]
        self._counts.add("RequestCount", 1, balancer)
        match action["Type"]:
            case "redirect":
                redirect = action["RedirectConfig"]
                there = location(redirect, asked, self._real_ports(balancer))
                status = int(redirect["StatusCode"].removeprefix("HTTP_"))
                await answer(send, status, headers=[(b"location", there.encode("latin-1", "replace"))])
            case "fixed-response":
                fixed = action["FixedResponseConfig"]
                kind = fixed.get("ContentType", "text/plain").encode()
                body = fixed.get("MessageBody", "").encode()
                await answer(send, int(fixed["StatusCode"]), body, [(b"content-type", kind)])
            case _:
                await self._forward(action, balancer, asked, scope, receive, send)

    async def _forward(
        self, action: Document, balancer: Document, asked: Asked, scope: Scope, receive: Receive, send: Send
    ) -> None:
        weighed = action["ForwardConfig"]["TargetGroups"]
        weights = [group.get("Weight", 1) for group in weighed]
        if not any(weights):
            await self._refuse(503, balancer, send)
            return
        chosen = random.choices(weighed, weights)[0]["TargetGroupArn"]  # noqa: S311
        targets = self._groups(chosen)
        group = targets.document
        sticky = attributes.read("TargetGroup", group, "stickiness.enabled") == "true"
        target = targets.choose(_cookie(asked.headers) if sticky else None)
        self._counts.add("RequestCount", 1, balancer, group)
        if target is None:
            await self._refuse(503, balancer, send)
            return
        for documents in ((group,), (balancer, group)):
            self._counts.add("RequestCountPerTarget", 1 / len(targets), *documents)
        await self._exchange(target, balancer, group, asked, (scope, receive, send), sticky=sticky)

    async def _exchange(
        self,
        target: Target,
        balancer: Document,
        group: Document,
        asked: Asked,
        connection: tuple[Scope, Receive, Send],
        *,
        sticky: bool,
    ) -> None:
        idle_s = int(attributes.read("LoadBalancer", balancer, "idle_timeout.timeout_seconds"))
        exchange = Exchange(*connection, idle_s)
        headers = _request_headers(connection[0], asked, balancer)
        target.in_flight += 1
        began = time.monotonic()
        try:
            added = _sticky_headers(target, group) if sticky else []
            await exchange.relay(self._way, target, headers, added)
        except BadAnswerError as error:
            await self._refuse(error.status, balancer, connection[2])
        except (ClientGoneError, httpx.HTTPError):
            return  # the answer had begun: the connection is closed, which tells the client
        finally:
            target.in_flight -= 1
            if exchange.status is not None:
                for documents in ((balancer,), (balancer, group)):
                    self._counts.add("TargetResponseTime", (exchange.began_at or began) - began, *documents)
                    self._counts.add(f"HTTPCode_Target_{exchange.status // 100}XX_Count", 1, *documents)

    async def _refuse(self, status: int, balancer: Document, send: Send) -> None:
        self._counts.add(f"HTTPCode_ELB_{status // 100}XX_Count", 1, balancer)
        title = f"{status} {responses[status]}"
        page = (
            f"<html>\r\n<head><title>{title}</title></head>\r\n"
            f"<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
        )
        await answer(send, status, page.encode(), [(b"content-type", b"text/html")])

    def _real_ports(self, balancer: Document) -> dict[str, int]:
        own = self._state.every("Listener", LoadBalancerArn=balancer["LoadBalancerArn"])
        return {str(listener["Port"]): listener["LocalPort"] for listener in own}


def _asked(scope: Scope, listener: Document) -> Asked:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return Asked(
        method=scope["method"],
        scheme=listener["Protocol"].lower(),
        host=re.sub(r":\d+$", "", headers.get("host", "")),
        port=listener["Port"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        client=scope["client"][0],
    )


def _request_headers(scope: Scope, asked: Asked, balancer: Document) -> Headers:
    """Return what the target gets: the client's headers, and who the client was."""

    def setting(name: str) -> str:
        return attributes.read("LoadBalancer", balancer, f"routing.http.{name}")

    headers = end_to_end(scope["headers"])
    if setting("drop_invalid_header_fields.enabled") == "true":
        headers = [(name, value) for name, value in headers if FIELD_NAME.fullmatch(name)]
    own = {b"x-forwarded-proto": asked.scheme, b"x-forwarded-port": str(asked.port)}
    mode = setting("xff_header_processing.mode")
    if mode == "append":
        before = asked.headers.get("x-forwarded-for")
        own[b"x-forwarded-for"] = f"{before}, {asked.client}" if before else asked.client
    dropped = {*own, *({b"x-forwarded-for"} if mode == "remove" else set())}
    trace = f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)}"
    if "x-amzn-trace-id" not in asked.headers:
        own[b"x-amzn-trace-id"] = trace
    return [
        *((name, value) for name, value in headers if name not in dropped),
        *((name, value.encode("latin-1")) for name, value in own.items()),
    ]


def _cookie(headers: dict[str, str]) -> str | None:
    # not the standard library's parser: it gives up at the first cookie that is not to its taste
    found = re.search(rf"(?:^|;)\s*{STICKY}=([^;]*)", headers.get("cookie", ""))
    return found.group(1) if found else None


def _sticky_headers(target: Target, group: Document) -> Headers:
    age = attributes.read("TargetGroup", group, "stickiness.lb_cookie.duration_seconds")
    plain = f"{STICKY}={target.cookie}; Max-Age={age}; Path=/"
    across = f"{STICKY}CORS={target.cookie}; Max-Age={age}; Path=/; SameSite=None; Secure"
    return [(b"set-cookie", plain.encode()), (b"set-cookie", across.encode())]
