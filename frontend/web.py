"""The page as a web application: Gradio behind a guard that keeps the browser on this machine."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from byollm.settings import PageSettings
from frontend.client import ModelClient, is_loopback
from frontend.guard import Guard
from frontend.handlers import Handlers
from frontend.page import ASSETS, build
from frontend.theme import theme


def application(settings: PageSettings) -> tuple[FastAPI, Callable[[], Awaitable[None]]]:
    """Put the page together; return it with what ends its answers, which are not to delay its end."""
    client = ModelClient(settings)
    handlers = Handlers(settings, client)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard)
    if is_loopback(settings.host):
        # otherwise a page from elsewhere could rebind its own name to this address and speak to the model
        own = ["localhost", "127.0.0.1", "[::1]", settings.host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=own)
    app.mount("/assets/byollm", StaticFiles(directory=ASSETS))
    gr.mount_gradio_app(
        app,
        build(settings, handlers),
        path="/",
        theme=theme(),
        favicon_path=str(ASSETS / "favicon.svg"),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        mcp_server=False,
    )
    return app, handlers.end
