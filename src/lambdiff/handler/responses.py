"""The replies of the contract: an image with its headers, or a JSON document."""

from __future__ import annotations

import msgspec

from lambdiff._version import __version__
from lambdiff.engine import cpu
from lambdiff.engine.base import Engine, EngineOutput
from lambdiff.handler.refusal import Refusal
from lambdiff.protocol.contract import Generation, Health
from lambdiff.protocol.headers import (
    ENGINE_HEADER,
    JSON,
    MEDIA_TYPES,
    MODEL_HEADER,
    PROBLEM_JSON,
    REQUEST_ID_HEADER,
    SEED_HEADER,
    TIMING_HEADER,
    WARNINGS_HEADER,
    encode_timings,
    encode_warnings,
)
from lambdiff.protocol.http import HttpResponse
from lambdiff.protocol.problems import make_problem

_MAX_HEADER = 200


def encode_image(output: EngineOutput, generation: Generation, engine: Engine) -> bytes:
    """Encode the pixels in the requested format, with the parameters and what has computed them as metadata.

    What a mask keeps has the start image's pixels.
    """
    from PIL import Image

    from lambdiff.engine import start_image
    from lambdiff.protocol import metadata

    recorded = metadata.ImageMetadata.of(
        generation,
        engine.manifest.identity,
        engine=engine.name,
        precision=engine.precision,
        threads=engine.threads,
    )
    pixels = start_image.restore_outside(output.pixels, generation)
    return metadata.encode(Image.fromarray(pixels), recorded)


def image_response(
    body: bytes,
    generation: Generation,
    engine: Engine,
    *,
    warnings: list[str],
    timings: dict[str, float],
    request_id: str,
) -> HttpResponse:
    """Return the reply with an encoded image.

    Args:
        body: the encoded image.
        generation: its parameters.
        engine: the engine that generated it.
        warnings: messages for the caller.
        timings: seconds by phase.
        request_id: see `HttpRequest`.
    """
    identity = engine.manifest.identity
    headers = {
        "content-type": MEDIA_TYPES[generation.image_format],
        SEED_HEADER: str(generation.seed),
        MODEL_HEADER: _printable(f"{identity.name}@{identity.revision}"),
        ENGINE_HEADER: _printable(f"{engine.name} {engine.precision}"),
        WARNINGS_HEADER: encode_warnings(warnings),
        REQUEST_ID_HEADER: request_id,
        TIMING_HEADER: encode_timings(timings),
    }
    return HttpResponse(200, headers, body)


def health_response(engine: Engine, request_id: str) -> HttpResponse:
    """Return the reply to `GET /`. It does not load the engine."""
    manifest = engine.manifest
    health = Health(
        version=__version__,
        model=manifest.identity,
        engine=engine.name,
        precision=engine.precision,
        cpu_features=cpu.features(),
        threads=engine.threads,
        defaults=manifest.defaults,
        limits=manifest.limits,
        loaded=engine.loaded,
    )
    return _json_response(200, health, {"content-type": JSON, REQUEST_ID_HEADER: request_id})


def problem_response(refusal: Refusal, request_id: str) -> HttpResponse:
    """Return the problem document of a refusal."""
    problem = make_problem(refusal.slug, refusal.detail, instance=request_id, errors=refusal.errors)
    headers = {"content-type": PROBLEM_JSON, **refusal.headers, REQUEST_ID_HEADER: request_id}
    return _json_response(problem.status, problem, headers)


def _json_response(status: int, document: msgspec.Struct, headers: dict[str, str]) -> HttpResponse:
    return HttpResponse(status, headers, msgspec.json.encode(document))


def _printable(value: str) -> str:
    """Make a manifest's text safe for a header."""
    return "".join(character if " " <= character <= "~" else "?" for character in value)[:_MAX_HEADER]
