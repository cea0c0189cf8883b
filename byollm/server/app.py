"""The application: which route leads where, and what every request passes through."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

import byollm
from byollm.server.adapter_routes import (
    AdapterRoutes,
    LoadAdapterRequest,
    RegisterAdapterRequest,
    UnloadAdapterRequest,
    UpdateAdapterRequest,
)
from byollm.server.chat import ChatRequest
from byollm.server.completions import CompletionRequest
from byollm.server.embeddings import EmbeddingRequest
from byollm.server.generate import GenerateRequest
from byollm.server.openai_routes import DetokenizeRequest, OpenAIRoutes, TokenizeRequest
from byollm.server.openapi import describe_bodies
from byollm.server.parameters import Parameters
from byollm.server.plain_routes import PlainRoutes
from byollm.server.service import Service
from byollm.web.app import guard

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
    add_routes(app, service)
    guard(app, service.settings.host, service.metrics.responded)
    return app


def add_routes(app: FastAPI, service: Service) -> None:
    """Put the routes into the application."""
    ours, plain, adapters = OpenAIRoutes(service), PlainRoutes(service), AdapterRoutes(service)
    posts: list[tuple[str, Handler, tuple[type[Parameters], ...]]] = [
        ("/v1/chat/completions", ours.chat_completions, (ChatRequest,)),
        ("/v1/completions", ours.completions, (CompletionRequest,)),
        ("/v1/embeddings", ours.embeddings, (EmbeddingRequest,)),
        ("/invocations", ours.invocations, (ChatRequest, CompletionRequest, EmbeddingRequest)),
        ("/tokenize", ours.tokenize, (TokenizeRequest,)),
        ("/detokenize", ours.detokenize, (DetokenizeRequest,)),
        ("/generate", plain.generate, (GenerateRequest,)),
        ("/predict", plain.generate, (GenerateRequest,)),
        ("/v1/load_lora_adapter", adapters.load, (LoadAdapterRequest,)),
        ("/v1/unload_lora_adapter", adapters.unload, (UnloadAdapterRequest,)),
        ("/adapters", adapters.register, (RegisterAdapterRequest,)),
        ("/adapters/{name:path}", adapters.update, (UpdateAdapterRequest,)),
    ]
    gets: list[tuple[str, Handler]] = [
        ("/v1/models", ours.models),
        ("/v1/models/{model:path}", ours.model),
        ("/ping", plain.ping),
        ("/health", plain.health),
        ("/model/info", plain.model_info),
        ("/metrics", plain.metrics),
        ("/adapters", adapters.list),
        ("/adapters/{name:path}", adapters.describe),
    ]
    for path, handler, _ in posts:
        app.add_api_route(path, handler, methods=["POST"], response_class=Response)
    for path, handler in gets:
        app.add_api_route(path, handler, methods=["GET"], response_class=Response)
    app.add_api_route(
        "/adapters/{name:path}", adapters.unregister, methods=["DELETE"], response_class=Response
    )
    describe_bodies(app, {path: bodies for path, _, bodies in posts}, service.model_name)
