"""The application: which route leads where, and what every request passes through."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import byollm
from byollm.server.chat import ChatRequest
from byollm.server.completions import CompletionRequest
from byollm.server.embeddings import EmbeddingRequest
from byollm.server.errors import ApiError, internal_error
from byollm.server.generate import GenerateRequest
from byollm.server.hosts import LoopbackOnly, is_loopback
from byollm.server.metrics import Metrics
from byollm.server.openai_routes import DetokenizeRequest, OpenAIRoutes, TokenizeRequest
from byollm.server.openapi import describe_bodies
from byollm.server.parameters import Parameters
from byollm.server.plain_routes import PlainRoutes
from byollm.server.replies import error_response
from byollm.server.service import Service

Handler = Callable[[Request], Awaitable[Response]]


def create_app(service: Service) -> FastAPI:
    """Build the application around `service`, whose model begins to load when the application starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="byollm",
        version=byollm.__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        # The pages that show the schema fetch their scripts from the network; the schema itself does not.
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(ApiError, answer_error)
    app.add_exception_handler(HTTPException, answer_http_exception)
    app.add_exception_handler(ClientDisconnect, answer_nobody)
    app.add_exception_handler(Exception, answer_fault)
    add_routes(app, service)
    if is_loopback(service.settings.host):
        app.add_middleware(LoopbackOnly)
    app.add_middleware(Observed, metrics=service.metrics)
    return app


def add_routes(app: FastAPI, service: Service) -> None:
    """Put the routes into the application."""
    ours, plain = OpenAIRoutes(service), PlainRoutes(service)
    posts: list[tuple[str, Handler, tuple[type[Parameters], ...]]] = [
        ("/v1/chat/completions", ours.chat_completions, (ChatRequest,)),
        ("/v1/completions", ours.completions, (CompletionRequest,)),
        ("/v1/embeddings", ours.embeddings, (EmbeddingRequest,)),
        ("/invocations", ours.invocations, (ChatRequest, CompletionRequest, EmbeddingRequest)),
        ("/tokenize", ours.tokenize, (TokenizeRequest,)),
        ("/detokenize", ours.detokenize, (DetokenizeRequest,)),
        ("/generate", plain.generate, (GenerateRequest,)),
        ("/predict", plain.generate, (GenerateRequest,)),
    ]
    gets: list[tuple[str, Handler]] = [
        ("/v1/models", ours.models),
        ("/v1/models/{model:path}", ours.model),
        ("/ping", plain.ping),
        ("/health", plain.health),
        ("/model/info", plain.model_info),
        ("/metrics", plain.metrics),
    ]
    for path, handler, _ in posts:
        app.add_api_route(path, handler, methods=["POST"], response_class=Response)
    for path, handler in gets:
        app.add_api_route(path, handler, methods=["GET"], response_class=Response)
    describe_bodies(app, {path: bodies for path, _, bodies in posts}, service.model_name)


async def answer_error(request: Request, error: Exception) -> Response:
    """Tell an error in OpenAI's shape."""
    assert isinstance(error, ApiError)
    return error_response(error)


async def answer_fault(request: Request, error: Exception) -> Response:
    """Tell of a fault of ours; what it is goes to the log alone, by way of uvicorn."""
    return error_response(internal_error())


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Tell an unknown route, or a method that a route does not have, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:256]}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        message, code = f"Unknown request URL: {where}. See docs/api.md for the routes.", "unknown_url"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        message, code = f"Not allowed: {where}. This route takes {allowed}.", "method_not_allowed"
    else:
        message, code = str(error.detail), "invalid_request"
    return error_response(ApiError(error.status_code, message, code=code, headers=error.headers))


async def answer_nobody(request: Request, error: Exception) -> Response:
    """For a client that went away while it sent its request; nobody reads this."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


class Observed:
    """Notes when each request came, gives it an id, and counts the response by route and status.

    Args:
        app: the application behind.
        metrics: where to count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and watch its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["state"]["arrival"] = asyncio.get_running_loop().time()
        request_id = uuid.uuid4().hex.encode()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unknown")
                self._metrics.responded(route, message["status"])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        await self._app(scope, receive, watched)
