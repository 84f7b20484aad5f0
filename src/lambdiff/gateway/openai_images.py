"""OpenAI's images API: `POST /v1/images/generations`, `POST /v1/images/edits`, `GET /v1/models`."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lambdiff.client.image import GeneratedImage
from lambdiff.errors import InvalidRequest, LambdiffError
from lambdiff.gateway.errors import GatewayError, as_document, translate
from lambdiff.gateway.generator import Generator
from lambdiff.gateway.links import EXPIRES_S, Links
from lambdiff.gateway.openai_fields import PICTURES, ImagesCall
from lambdiff.printable import printable
from lambdiff.protocol.contract import Health
from lambdiff.protocol.headers import MEDIA_TYPES, encode_warnings
from lambdiff.protocol.validation import parse_object

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PICTURE: Final = 16 * 1024 * 1024
"""Maximum bytes of a start image or a mask."""
_MAX_FIELDS: Final = 40
_WARNINGS_HEADER: Final = "lambdiff-warnings"


class ImagesApi:
    """The routes of the images API.

    Args:
        generator: generates the images.
        links: keeps what is returned as a link.
    """

    def __init__(self, generator: Generator, links: Links) -> None:
        self._generator = generator
        self._links = links
        self.routes = [
            Route("/v1/images/generations", self._generations, methods=["POST"]),
            Route("/v1/images/edits", self._edits, methods=["POST"]),
            Route("/v1/images/files/{name}", self._file, methods=["GET"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{name:path}", self._model, methods=["GET"]),
        ]

    async def _generations(self, request: Request) -> Response:
        fields = await read_json(request)
        return await self._answer(request, ImagesCall(fields, await self._health()))

    async def _edits(self, request: Request) -> Response:
        health = await self._health()
        fields, files = await _read_form(request)
        if "image" not in files:
            raise GatewayError(400, "`image` is required.", code="missing_required_parameter", param="image")
        call = ImagesCall({**fields, **_pictures(files)}, health, edit=True)
        try:
            for each in call.requests:
                health.limits.check_pictures(each)
        except InvalidRequest as error:
            raise translate(error) from None
        return await self._answer(request, call)

    async def _answer(self, request: Request, call: ImagesCall) -> Response:
        if call.partial_images and not await anyio.to_thread.run_sync(lambda: self._generator.can_preview):
            raise GatewayError(
                400, "`partial_images` must be 0: there are previews on this machine only, with a fast decoder.",
                code="invalid_value", param="partial_images",
            )  # fmt: skip
        if call.stream:
            return StreamingResponse(self._events(request, call), media_type="text/event-stream")
        results = await self._generator.generate(call.requests, request.is_disconnected)
        images, warnings = _split(results, call.warnings)
        document = {
            "created": int(time.time()),
            "output_format": call.requests[0].image_format,
            "size": "{}x{}".format(*images[0].size),
            "data": [self._datum(request, image, as_url=call.as_url) for image in images],
            "warnings": warnings,
        }
        return JSONResponse(document, headers={_WARNINGS_HEADER: encode_warnings(warnings)})

    async def _events(self, request: Request, call: ImagesCall) -> AsyncIterator[str]:
        """Yield the events of a stream: previews, then the image, or an error."""
        kind = "image_edit" if call.requests[0].image else "image_generation"
        loop = asyncio.get_running_loop()
        previews: asyncio.Queue[Image | None] = asyncio.Queue()

        def on_step(done: int, total: int) -> None:
            if done in _preview_steps(total, call.partial_images):
                loop.call_soon_threadsafe(previews.put_nowait, self._generator.preview())

        generating = asyncio.ensure_future(self._generator.generate(call.requests, request.is_disconnected, on_step))
        generating.add_done_callback(lambda _: previews.put_nowait(None))
        number = 0
        while (preview := await previews.get()) is not None:
            yield _event(f"{kind}.partial_image", _partial(f"{kind}.partial_image", preview, number))
            number += 1
        try:
            results = await generating
            (image,), warnings = _split(results, call.warnings)
        except GatewayError as error:
            yield _event("error", {"type": "error", **as_document(error)})
            return
        name = f"{kind}.completed"
        document = {
            **_image_event(name, _base64(image), image.size, image.format),
            "seed": image.seed,
            "warnings": warnings,
        }
        yield _event(name, document)

    def _datum(self, request: Request, image: GeneratedImage, *, as_url: bool) -> dict[str, Any]:
        if as_url:
            name = self._links.add(image)
            return {"url": str(request.url_for("_file", name=name)), "seed": image.seed}
        return {"b64_json": _base64(image), "seed": image.seed}

    async def _file(self, request: Request) -> Response:
        image = self._links.find(request.path_params["name"])
        if image is None:
            raise GatewayError(404, "There is no such image, or its link has expired.", code="not_found")
        cache = f"private, max-age={int(EXPIRES_S)}"
        return Response(image.content, media_type=MEDIA_TYPES[image.format], headers={"cache-control": cache})

    async def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model_document(await self._health())]})

    async def _model(self, request: Request) -> Response:
        health, name = await self._health(), request.path_params["name"]
        if name != health.model.name:
            raise GatewayError(404, f"There is no model {printable(name, 100)}.", code="model_not_found", param="model")
        return JSONResponse(_model_document(health))

    async def _health(self) -> Health:
        try:
            return await self._generator.health()
        except LambdiffError as error:
            log(error)
            raise translate(error) from None


async def read_json(request: Request) -> dict[str, Any]:
    """Return the object in a request's body.

    Raises:
        GatewayError: there is none.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise GatewayError(415, "The body must be JSON: Content-Type: application/json.", code="unsupported_media_type")
    try:
        return parse_object(await request.body())
    except InvalidRequest as error:
        raise translate(error) from None


def log(error: LambdiffError) -> None:
    """Write why the endpoint cannot be used to the gateway's log, which has no prompts."""
    print(f"lambdiff gateway: {type(error).__name__}: {error.message} {error.fix}", file=sys.stderr, flush=True)


async def _read_form(request: Request) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the fields and the files of a form."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise GatewayError(415, "The body must be a form: multipart/form-data.", code="unsupported_media_type")
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    async with request.form(max_files=len(PICTURES), max_fields=_MAX_FIELDS) as form:
        for name, value in form.multi_items():
            plain = name.removesuffix("[]")  # how some programs spell a list with one entry
            if plain in fields or plain in files:
                raise GatewayError(
                    400, f"There is more than one `{printable(plain, 40)}`.", code="invalid_value", param=plain
                )
            if isinstance(value, UploadFile):
                files[plain] = await value.read(MAX_PICTURE + 1)
                if len(files[plain]) > MAX_PICTURE:
                    raise GatewayError(
                        413, f"`{printable(plain, 40)}` has more than 16 MiB.", code="request_too_large", param=plain
                    )
            else:
                fields[plain] = value
    if picture := next((name for name in fields if name in PICTURES), None):
        raise GatewayError(400, f"`{picture}` must be a file.", code="invalid_value", param=picture)
    return fields, files


def _pictures(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the pictures as lambdiff takes them: its masks are white where OpenAI's are transparent."""
    pictures: dict[str, Any] = dict(files)
    if "mask" in files:
        mask = _transparent_part(files["mask"])
        if mask is None:
            raise GatewayError(
                400, "`mask` must be a PNG or WebP image that is transparent where it is redrawn.",
                code="invalid_value", param="mask",
            )  # fmt: skip
        pictures["mask"] = mask
    elif "image" in files and (mask := _transparent_part(files["image"])) is not None:
        pictures["mask"] = mask
    return pictures


def _transparent_part(content: bytes) -> Any:
    """Return a picture that is white where another one is transparent; None if that has no transparency at all."""
    import PIL.Image
    from PIL import ImageChops

    from lambdiff.client.pictures import MAX_PIXELS

    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG", "WEBP"]) as image:
            if not image.has_transparency_data or image.width * image.height > MAX_PIXELS:
                return None
            return ImageChops.invert(image.convert("RGBA").getchannel("A"))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return None


def _split(
    results: list[GeneratedImage | LambdiffError], warnings: list[str]
) -> tuple[list[GeneratedImage], list[str]]:
    """Return the images and all warnings. If some images failed, the others are not lost.

    Raises:
        GatewayError: all have failed.
    """
    images = [result for result in results if isinstance(result, GeneratedImage)]
    errors = [result for result in results if isinstance(result, LambdiffError)]
    for error in errors:
        if translate(error).status >= 500:
            log(error)
    if not images:
        raise translate(errors[0]) from None
    notes = dict.fromkeys([*warnings, *(warning for image in images for warning in image.warnings)])
    notes.update(dict.fromkeys(f"An image failed: {translate(error).message}" for error in errors))
    return images, list(notes)


def _preview_steps(total: int, count: int) -> set[int]:
    """Return after which steps a stream has previews: evenly spaced, and none after the last."""
    return {round(total * (index + 1) / (count + 1)) for index in range(count)} - {0, total}


def _partial(name: str, preview: Image, number: int) -> dict[str, Any]:
    stream = io.BytesIO()
    preview.save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return {**_image_event(name, text, preview.size, "png"), "partial_image_index": number}


def _image_event(name: str, text: str, size: tuple[int, int], image_format: str) -> dict[str, Any]:
    return {
        "type": name,
        "b64_json": text,
        "created_at": int(time.time()),
        "background": "opaque",
        "quality": "auto",
        "output_format": image_format,
        "size": "{}x{}".format(*size),
    }


def _model_document(health: Health) -> dict[str, Any]:
    return {"id": health.model.name, "object": "model", "created": 0, "owned_by": "lambdiff"}


def _base64(image: GeneratedImage) -> str:
    return base64.b64encode(image.content).decode("ascii")


def _event(name: str, document: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(document)}\n\n"
