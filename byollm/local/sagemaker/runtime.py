"""The runtime: InvokeEndpoint and InvokeEndpointWithResponseStream.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

import asyncio
import time
import uuid
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from byollm.local.protocol import AwsError
from byollm.local.sagemaker.copies import Copies
from byollm.local.sagemaker.endpoints import Endpoints
from byollm.local.sagemaker.eventstream import CONTENT_TYPE
from byollm.local.sagemaker.host import Host
from byollm.local.sagemaker.instance import Instance
from byollm.local.sagemaker.invocation import Invocation, InvocationError
from byollm.local.sagemaker.signature import Keys, check_signature
from byollm.local.sagemaker.telemetry import Telemetry, variant_dimensions
from byollm.local.world import World
from byollm.web.lingering import LingeringResponse

T = TypeVar("T")

BODY_BYTES = 25 * 2**20
IN_FLIGHT = 512
SHADOWS = 64
CLIENT_GONE = 499
PREFIX = "x-amzn-sagemaker-"
NOT_EMULATED = ("target-container-hostname", "target-model", "enable-explanations")


class Runtime:
    """Takes the calls of endpoints to their containers.

    Args:
        world: whose account is in the errors.
        endpoints: those there are.
        telemetry: told of every call.
    """

    def __init__(self, world: World, endpoints: Endpoints, telemetry: Telemetry) -> None:
        self._world, self._endpoints, self._telemetry = world, endpoints, telemetry
        self._keys = Keys(world)
        self._in_flight = 0
        self._shadows: set[asyncio.Task[None]] = set()
        self.routes = [
            Route("/endpoints/{name}/invocations", self._invoke, methods=["POST"]),
            Route("/endpoints/{name}/invocations-response-stream", self._stream, methods=["POST"]),
            Route("/endpoints/{name}/async-invocations", _refuse_async, methods=["POST"]),
        ]

    async def _invoke(self, request: Request) -> Response:
        try:
            return await _while_there(request, self._whole(request, await _body(request)))
        except (AwsError, InvocationError, _TooLongError, ClientDisconnect) as error:
            return _failure(error)

    async def _stream(self, request: Request) -> Response:
        try:
            invocation, variant = self._begin(request, await _body(request))
            try:
                answered = await _while_there(request, invocation.open())
            except BaseException:
                await invocation.aclose()
                raise
        except (AwsError, InvocationError, _TooLongError, ClientDisconnect) as error:
            return _failure(error)
        headers = _headers(answered, variant)
        headers["x-amzn-sagemaker-content-type"] = answered.get("content-type", "application/octet-stream")
        return _EventStream(invocation, headers)

    async def _whole(self, request: Request, body: bytes) -> Response:
        invocation, variant = self._begin(request, body)
        async with aclosing(invocation):
            answered = await invocation.open()
            content = await invocation.content()
        headers = _headers(answered, variant)
        return Response(content, headers=headers, media_type=answered.get("content-type"))

    def _begin(self, request: Request, body: bytes) -> tuple[Invocation, str]:
        """Check a request and choose who answers it; return the call, and the variant's name."""
        check_signature(request, body, self._keys)
        name = request.path_params["name"]
        for member in NOT_EMULATED:
            if PREFIX + member in request.headers:
                raise _invalid(f"{PREFIX}{member} is not emulated (docs/local.md)")
        host = self._endpoints.in_service(name)
        if host is None:
            raise _invalid(f"Endpoint {name} of account {self._world.account} not found.")
        if host.current is None:  # it is being brought back
            raise _unavailable()
        if self._in_flight >= IN_FLIGHT:
            raise InvocationError(429, "ThrottlingException", "Rate exceeded")
        component = request.headers.get(PREFIX + "inference-component")
        if host.hosts_components:
            return self._to_component(name, host, component, body, request)
        if component is not None:
            raise _invalid(
                f"Endpoint {name} does not host inference components. Please remove the Inference Component "
                "Name header and try again."
            )
        return self._to_variant(name, host, body, request)

    def _to_component(
        self, name: str, host: Host, component: str | None, body: bytes, request: Request
    ) -> tuple[Invocation, str]:
        if component is None:
            raise _invalid(
                "Inference Component Name header is required for endpoints to which you plan to deploy "
                "inference components. Please include Inference Component Name header or consider using "
                "SageMaker models.",
                ErrorCode="INFERENCE_COMPONENT_NAME_MISSING",
            )
        copies: Copies | None = host.components.get(component)
        if copies is None:
            raise _invalid(f"Inference Component {component} of endpoint {name} not found.")
        instance = copies.pick()
        if instance is None:
            self._telemetry.no_capacity(component)
            raise _invalid(
                "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
                "in-progress (if configured) or try to increase the capacity by invoking "
                "UpdateInferenceComponentRuntimeConfig API."
            )
        dimensions = [variant_dimensions(name, copies.variant), {"InferenceComponentName": component}]
        call = self._call(instance, body, request, dimensions, len(copies.ready))
        return call, copies.variant

    def _to_variant(self, name: str, host: Host, body: bytes, request: Request) -> tuple[Invocation, str]:
        target = request.headers.get(PREFIX + "target-variant")
        route = host.route(target)
        if route is None:
            raise _invalid(
                f"Variant {target} not found for Request." if target else f"Endpoint {name} answers nothing."
            )
        instance = route.fleet.pick()
        if instance is None:
            raise _unavailable()
        if route.shadow is not None and route.shadow_fleet is not None and len(self._shadows) < SHADOWS:
            copy = route.shadow_fleet.pick()
            if copy is not None:
                of = [variant_dimensions(name, route.shadow.name)]
                call = self._call(copy, body, request, of, len(route.shadow_fleet.ready))
                task = asyncio.create_task(_forget(call))
                self._shadows.add(task)
                task.add_done_callback(self._shadows.discard)
        of = [variant_dimensions(name, route.variant.name)]
        call = self._call(instance, body, request, of, len(route.fleet.ready))
        return call, route.variant.name

    def _call(
        self,
        instance: Instance,
        body: bytes,
        request: Request,
        dimensions: list[dict[str, str]],
        instances: int,
    ) -> Invocation:
        overhead_s = time.monotonic() - request.state.began
        self._in_flight += 1

        def ended(status: int, seconds: float) -> None:
            self._in_flight -= 1
            self._telemetry.invoked(dimensions, status, seconds, overhead_s, instances)

        def fault(status: int, message: str) -> InvocationError:
            return self._model_error(instance.container.stream.group, status, message)

        return Invocation(instance, body, _forwarded(request), fault, ended)

    def _model_error(self, group: str, status: int, message: str) -> InvocationError:
        whose = "client" if 400 <= status < 500 else "server"
        world = self._world
        page = f"https://{world.region}.console.aws.amazon.com/cloudwatch/home?region={world.region}"
        return InvocationError(
            424,
            "ModelError",
            f'Received {whose} error ({status}) from primary with message "{message}". See '
            f"{page}#logEventViewer:group={group} in account {world.account} for more information.",
            OriginalStatusCode=status,
            OriginalMessage=message,
            LogStreamArn=world.arn("logs", f"log-group:{group}"),
        )


class _EventStream(Response):
    """A streamed answer that closes its call however it ends."""

    def __init__(self, invocation: Invocation, headers: dict[str, str]) -> None:
        self._invocation = invocation
        self._response = StreamingResponse(invocation.frames(), headers=headers, media_type=CONTENT_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._invocation):
            await self._response(scope, receive, send)


class _TooLongError(Exception):
    pass


async def _body(request: Request) -> bytes:
    """Read the body, as far as it may go."""
    request.state.began = time.monotonic()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise _TooLongError
    return bytes(body)


async def _while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work for a client, or give it up.

    Raises:
        ClientDisconnect: the client went away.
    """
    doing, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        gone.cancel()
        doing.cancel()
        await asyncio.wait({doing})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refuse_async(request: Request) -> Response:
    return _failure(_invalid("InvokeEndpointAsync is not emulated (docs/local.md)"))


async def _forget(invocation: Invocation) -> None:
    """Make a shadow's call, whose answer nobody sees."""
    async with aclosing(invocation):
        try:
            await invocation.open()
            await invocation.content()
        except InvocationError:
            pass


def _forwarded(request: Request) -> dict[str, str]:
    headers = {
        "content-type": request.headers.get("content-type", "application/octet-stream"),
        "accept": request.headers.get(PREFIX + "accept", request.headers.get("accept", "*/*")),
    }
    own = {name: value for name, value in request.headers.items() if name.startswith(PREFIX)}
    return headers | own


def _headers(answered: httpx.Headers, variant: str) -> dict[str, str]:
    headers = {"x-amzn-requestid": str(uuid.uuid4()), "x-amzn-invoked-production-variant": variant}
    custom = answered.get(PREFIX + "custom-attributes")
    return headers | ({PREFIX + "custom-attributes": custom} if custom else {})


def _invalid(message: str, **members: object) -> InvocationError:
    return InvocationError(400, "ValidationError", message, **members)


def _unavailable() -> InvocationError:
    return InvocationError(503, "ServiceUnavailable", "No instance is healthy at the moment. Try again.")


def _failure(error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_GONE)
    if isinstance(error, _TooLongError):
        message = f"HTTP content length exceeded {BODY_BYTES} bytes."
        return LingeringResponse(message, 413, {"connection": "close"}, "text/plain")
    if isinstance(error, AwsError):
        error = InvocationError(error.status, error.code, error.message)
    assert isinstance(error, InvocationError)
    headers = {"x-amzn-errortype": error.code, "x-amzn-requestid": str(uuid.uuid4())}
    return JSONResponse(error.body, error.status, headers=headers)
