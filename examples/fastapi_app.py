"""A web API in front of a lambdiff endpoint.

    pip install ".[local]" "fastapi>=0.115" "uvicorn>=0.34"
    uvicorn --app-dir examples fastapi_app:app
    curl -s http://127.0.0.1:8000/images -H "Content-Type: application/json" -d '{"prompt": "a cat"}' -o cat.png

This process signs the requests, so its callers need no AWS credentials. It has no authentication of its own: add yours
before you expose it, because every image is billed to you.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

import lambdiff
from lambdiff import errors


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client for all requests: it reuses connections, and the event loop never waits for an image."""
    async with lambdiff.AsyncClient() as client:
        app.state.client = client
        yield


app = FastAPI(title="Images", lifespan=lifespan)


class ImageRequest(BaseModel):
    """The parameters that callers may set. lambdiff checks their values; None means the model's default."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    negative_prompt: str | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None


@app.post("/images", response_class=Response, responses={200: {"content": {"image/webp": {}}}})
async def create_image(body: ImageRequest, request: Request) -> Response:
    """Generate one image. Requests do not wait for each other."""
    client: lambdiff.AsyncClient = request.app.state.client
    image = await client.generate(**body.model_dump(), image_format="webp")
    return Response(image.content, media_type="image/webp", headers={"X-Seed": str(image.seed)})


@app.exception_handler(errors.LambdiffError)
def problem(request: Request, error: errors.LambdiffError) -> JSONResponse:
    """Turn lambdiff's errors into problem documents (RFC 9457). `fix` is meant for whoever runs this server."""
    content: dict[str, Any] = {"title": error.message}
    if isinstance(error, errors.InvalidRequest):
        return _problem(422, content | {"errors": dict(error.problems)})
    if isinstance(error, errors.Throttled):
        return _problem(503, content, {"Retry-After": "10"})
    if isinstance(error, errors.EndpointTimeout):
        return _problem(504, content)
    if isinstance(error, errors.EndpointRefused | errors.EndpointFailed):
        return _problem(502, content)
    return _problem(500, {"title": "The server is not configured."})


def _problem(status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> JSONResponse:
    document = {**content, "status": status}
    return JSONResponse(document, status, headers, media_type="application/problem+json")
