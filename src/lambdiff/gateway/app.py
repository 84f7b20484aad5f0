"""The gateway's application: routes behind one guard, in front of one client."""

from __future__ import annotations

import contextlib
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
from lambdiff.gateway.security import Guard
from lambdiff.gateway.settings import Settings


def make_app(client: Client, settings: Settings) -> Starlette:
    """Return the application.

    Args:
        client: generates the images. Closed when the application ends.
        settings: who may call, and how much.

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

    return Starlette(
        routes=[
            Route("/health", _health, methods=["GET"]),
            Route("/mcp", StreamableHTTPASGIApp(sessions)),
            *ImagesApi(generator, Links()).routes,
        ],
        middleware=[Middleware(Guard, settings=settings)],
        exception_handlers={GatewayError: _refuse, HTTPException: _not_found, Exception: _failed},
        lifespan=lifespan,
    )


async def _health(_request: Request) -> Response:
    """Say that the gateway runs, without asking its endpoint."""
    return JSONResponse({"status": "ok", "version": __version__})


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
