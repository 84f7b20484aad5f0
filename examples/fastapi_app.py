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
    """Keep one client for all requests: it is thread-safe and reuses connections."""
    with lambdiff.Client() as client:
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
def create_image(body: ImageRequest, request: Request) -> Response:
    """Generate one image. FastAPI runs a plain `def` in a thread, so requests do not wait for each other."""
    client: lambdiff.Client = request.app.state.client
    image = client.generate(**body.model_dump(), image_format="webp")
    return Response(image.content, media_type="image/webp", headers={"X-Seed": str(image.seed)})


@app.exception_handler(errors.LambdiffError)
def problem(request: Request, error: errors.LambdiffError) -> JSONResponse:
    """Turn lambdiff's errors into HTTP statuses. `fix` stays here: it is meant for whoever runs this server."""
    content: dict[str, Any] = {"title": error.message}
    if isinstance(error, errors.InvalidRequest):
        return JSONResponse(content | {"errors": dict(error.problems)}, status_code=422)
    if isinstance(error, errors.Throttled):
        return JSONResponse(content, status_code=503, headers={"Retry-After": "10"})
    if isinstance(error, errors.EndpointTimeout):
        return JSONResponse(content, status_code=504)
    if isinstance(error, errors.EndpointRefused | errors.EndpointFailed):
        return JSONResponse(content, status_code=502)
    return JSONResponse({"title": "The server is not configured."}, status_code=500)
