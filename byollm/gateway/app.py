"""The application: OpenAI's routes, each passed to the endpoint."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response

import byollm
from byollm.gateway.listing import Listing
from byollm.gateway.metrics import Metrics
from byollm.gateway.passing import Passage, Passing
from byollm.gateway.runtime import Runtime
from byollm.settings import GatewaySettings
from byollm.web.app import guard
from byollm.web.body import BodyReader
from byollm.web.errors import ApiError
from byollm.web.replies import json_response

# By what stands in the body the endpoint tells calls apart: each route takes only its own.
CALLS = {"/v1/chat/completions": "messages", "/v1/completions": "prompt", "/v1/embeddings": "input"}
MOST_NAMED = 20  # in an error


def create_app(runtime: Runtime, settings: GatewaySettings) -> FastAPI:
    """Build the application around `runtime`, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await runtime.close()

    app = FastAPI(
        title="byollm gateway",
        version=byollm.__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    metrics = Metrics()
    routes = Routes(Passage(runtime, settings, metrics))
    for path in CALLS:
        app.add_api_route(path, routes.call, methods=["POST"], response_class=Response)
    gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/v1/models": routes.models,
        "/v1/models/{model:path}": routes.model,
        "/model/info": routes.model_info,
        "/health": routes.health,
        "/metrics": routes.metrics,
    }
    for path, handler in gets.items():
        app.add_api_route(path, handler, methods=["GET"], response_class=Response)
    guard(app, settings.host, metrics.responded)
    return app


class Routes:
    """The handlers.

    Args:
        passage: the way to the endpoint.
    """

    def __init__(self, passage: Passage) -> None:
        self._passage, self._listing = passage, Listing(passage)
        self._bodies = BodyReader(passage.settings.max_body_bytes, passage.settings.request_timeout_s)
        self._born = time.time()

    async def call(self, request: Request) -> Response:
        """Pass a call to the endpoint."""
        asked, source = await self._bodies.read_with_source(request)
        own = CALLS[request.url.path]
        if own not in asked:
            message = f"Missing required parameter: '{own}'."
            raise ApiError(400, message, param=own, code="missing_required_parameter")
        for foreign in CALLS.values():
            if foreign != own and foreign in asked:
                message = f"Unrecognized request argument supplied: {foreign}."
                raise ApiError(400, message, param=foreign, code="unknown_parameter")
        return Passing(self._passage, source, asked.get("stream") is True)

    async def models(self, request: Request) -> Response:
        """The models and adapters that the endpoint serves."""
        return json_response({"object": "list", "data": await self._listing.models(request.state.request_id)})

    async def model(self, request: Request) -> Response:
        """One of them by name."""
        name, models = request.path_params["model"], await self._listing.models(request.state.request_id)
        for model in models:
            if model["id"] == name:
                return json_response(model)
        there = ", ".join(model["id"] for model in models[:MOST_NAMED])
        message = f"The model '{name[:256]}' does not exist. There is {there}."
        raise ApiError(404, message, param="model", code="model_not_found")

    async def model_info(self, request: Request) -> Response:
        """What is known of the model here: its name. The page shows no more than it is told."""
        return json_response({"model": self._passage.settings.model_name})

    async def health(self, request: Request) -> Response:
        """Whether the gateway itself works. The endpoint may sleep: that makes no gateway unhealthy."""
        uptime = round(time.time() - self._born, 3)
        return json_response({"status": "ready", "uptime_s": uptime, "running": self._passage.running})

    async def metrics(self, request: Request) -> Response:
        """Prometheus's text format."""
        return Response(self._passage.metrics.exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
