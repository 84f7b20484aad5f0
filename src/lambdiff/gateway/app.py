"""The gateway's application: routes behind one guard, in front of one client."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lambdiff._version import __version__
from lambdiff.client.client import Client
from lambdiff.gateway.errors import GatewayError, as_response
from lambdiff.gateway.generator import Generator
from lambdiff.gateway.links import Links
from lambdiff.gateway.mcp_server import ImageTools
from lambdiff.gateway.openai_images import ImagesApi
from lambdiff.gateway.openapi import openapi
from lambdiff.gateway.page import CSS, FONTS, Page
from lambdiff.gateway.security import Guard
from lambdiff.gateway.settings import PageFolders, Settings


def make_app(client: Client, settings: Settings, page: PageFolders | None = None) -> Starlette:
    """Return the application.

    Args:
        client: generates the images. Closed when the application ends.
        settings: who may call, and how much.
        page: the folders of the page at `/`; None for no page. The page needs the `ui` extra, and asks the endpoint for
            its limits now.

    Example:
        >>> from starlette.testclient import TestClient
        >>> app = make_app(lambdiff.Client(local=True), Settings())
        >>> with TestClient(app, base_url="http://127.0.0.1") as browser:
        ...     browser.get("/health").json()["status"]
        'ok'
    """
    generator = Generator(client, settings)
    tools = ImageTools(client, budget=generator.budget)
    # Its own checks of host and origin are off, because the guard has made them already.
    sessions = StreamableHTTPSessionManager(tools.server)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            async with sessions.run():
                yield
        finally:
            client.close()

    app = Starlette(
        routes=[
            Route("/health", _health, methods=["GET"]),
            Route("/openapi.json", _openapi, methods=["GET"]),
            Route("/mcp", StreamableHTTPASGIApp(sessions)),
            *ImagesApi(generator, Links()).routes,
        ],
        middleware=[Middleware(Guard, settings=settings)],
        exception_handlers={GatewayError: _refuse, HTTPException: _not_found, Exception: _failed},
        lifespan=lifespan,
    )
    if page is not None:
        _mount(app, Page(client, client.health(), generator.budget, page.uploads, page.shown), page)
    return app


def _mount(app: Starlette, page: Page, folders: PageFolders) -> None:
    # Read when Gradio is imported and when it stores an upload; without them it reports to its makers' server.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folders.uploads), "HF_HUB_OFFLINE": "1"}
    import gradio as gr

    gr.mount_gradio_app(
        app,
        page.blocks(), path="/", show_error=True, ssr_mode=False, run_history=False, enable_monitoring=False, pwa=False,
        mcp_server=False, footer_links=[], max_file_size="16mb", css=CSS,
        theme=gr.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"]),
        allowed_paths=[str(folder.resolve()) for folder in (folders.uploads, folders.shown) if folder is not None],
    )  # fmt: skip


async def _health(_request: Request) -> Response:
    """Say that the gateway runs, without asking its endpoint."""
    return JSONResponse({"status": "ok", "version": __version__})


async def _openapi(_request: Request) -> Response:
    return JSONResponse(openapi())


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)  # noqa: S101 (the only class it is registered for)
    return as_response(error)


async def _not_found(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    codes = {404: "not_found", 405: "method_not_allowed"}
    return as_response(
        GatewayError(error.status_code, error.detail, code=codes.get(error.status_code, "invalid_request"))
    )


async def _failed(_request: Request, _error: Exception) -> Response:
    return as_response(GatewayError(500, "The gateway failed; its log says why.", code="internal_error"))
