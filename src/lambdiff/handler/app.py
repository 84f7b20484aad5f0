"""Event -> request -> engine -> reply.

`App` serves the function (function.py), `lambdiff serve` and the in-process endpoint.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from lambdiff._version import __version__
from lambdiff.engine import cpu
from lambdiff.engine.base import Engine, EngineOutput
from lambdiff.engine.manifest import Approximations
from lambdiff.errors import Cancelled, ConfigurationError, InvalidRequest, MalformedRequest
from lambdiff.handler import event, request_log
from lambdiff.protocol import contract
from lambdiff.protocol.contract import GenerateRequest, Generation, Health
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
from lambdiff.protocol.http import HttpRequest, HttpResponse, OnStep, media_type
from lambdiff.protocol.problems import make_problem

METHODS: Final = "GET, POST"
MAX_ERRORS: Final = 20
"""Bad fields that a problem document names."""
MARGIN: Final = 1.5
"""Seconds kept, at most, between giving up and the function's time-out, to encode and to send the reply."""


class Refused(Exception):
    """Ends a request with a problem document; `slug` is a key of `problems.PROBLEMS`."""

    def __init__(
        self, slug: str, detail: str, errors: Sequence[tuple[str, str]] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(slug)
        self.slug = slug
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


@dataclass
class _Call:
    """One request on its way, and what its line in the log will say."""

    request: HttpRequest
    on_step: OnStep | None
    started: float = field(default_factory=time.monotonic)
    timings: dict[str, float] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def soft_deadline(self) -> float | None:
        """The moment at which no further step is begun."""
        deadline = self.request.deadline
        return None if deadline is None else deadline - min(MARGIN, (deadline - self.started) / 4)

    @property
    def late(self) -> bool:
        return self.soft_deadline is not None and time.monotonic() >= self.soft_deadline


class App:
    """Answers requests with one engine, which is opened and loaded at the first request that needs it.

    Pictures are drawn one after the other: an engine uses every core, and Lambda sends one request at a time.

    Args:
        open_engine: makes the engine; called again after a failure.
        write_log: takes one entry per request.
        raise_errors: raise what is no fault of the request, instead of a reply of 500 or 503: for callers in
            this process, who can act on a `MissingExtra`.
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        *,
        write_log: request_log.Log = request_log.discard,
        raise_errors: bool = False,
    ) -> None:
        self._open_engine = open_engine
        self._write_log = write_log
        self._raise_errors = raise_errors
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._drawing = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine, not necessarily loaded.

        Raises:
            ModelError, MissingExtra: there is none.
        """
        with self._opening:
            if self._engine is None:
                self._engine = self._open_engine()
            return self._engine

    def invoke(self, lambda_event: object, context: event.LambdaContext | None = None) -> dict[str, Any]:
        """Answer a Function URL's event; never raises on account of the event."""
        try:
            request = event.parse(lambda_event, context)
        except MalformedRequest as error:
            request = HttpRequest(method="", request_id=event.request_id(lambda_event, context))
            return event.render(self._finish(_Call(request, None), functools.partial(_raise, error)))
        return event.render(self.handle(request))

    def handle(self, request: HttpRequest, on_step: OnStep | None = None) -> HttpResponse:
        """Answer a request: the picture, the health document, or a problem document.

        Args:
            request: as it came.
            on_step: see `Engine.generate`.

        Raises:
            Cancelled: `on_step` returned True.
        """
        call = _Call(request, on_step)
        return self._finish(call, functools.partial(self._route, call))

    def warm_up(self) -> None:
        """Load the weights and draw, so that nothing is left to do for the first request."""
        engine = self.engine
        engine.load()
        defaults = engine.manifest.defaults
        if engine.manifest.approximations == Approximations():  # otherwise steps differ in what they run
            defaults = msgspec.structs.replace(defaults, num_inference_steps=1)
        engine.generate(GenerateRequest(prompt="warm up", seed=0).resolve(defaults))

    def _finish(self, call: _Call, answer: Callable[[], HttpResponse]) -> HttpResponse:
        try:
            response = answer()
        except Refused as refusal:
            response = self._problem(call, refusal)
        except MalformedRequest as error:
            response = self._problem(call, Refused("malformed-request", error.message, error.problems))
        except InvalidRequest as error:
            response = self._problem(call, Refused("invalid-value", error.message[:500], error.problems))
        except Cancelled:
            raise
        except ConfigurationError as error:
            if self._raise_errors:
                raise
            response = self._problem(call, Refused("model-unavailable", " ".join((error.message, error.fix)).strip()))
        except Exception as error:
            if self._raise_errors:
                raise
            call.entry["failure"] = request_log.failure(error)
            detail = f"The function's log has more under request id {call.request.request_id}."
            response = self._problem(call, Refused("internal-error", detail))
        self._write_log(
            {
                "level": "ERROR" if response.status >= 500 else "INFO",
                "request_id": call.request.request_id,
                "status": response.status,
                "seconds": round(time.monotonic() - call.started, 4),
                "bytes_in": len(call.request.body),
                "bytes_out": len(response.body),
                **call.entry,
            }
        )
        return response

    def _problem(self, call: _Call, refusal: Refused) -> HttpResponse:
        call.entry["problem"] = refusal.slug
        known = GenerateRequest.__struct_fields__
        if refusal.errors:
            call.entry["fields"] = sorted({name if name in known else "?" for name, _ in refusal.errors})
        document = make_problem(
            refusal.slug, refusal.detail, instance=call.request.request_id, errors=refusal.errors[:MAX_ERRORS]
        )
        headers = {**refusal.headers, REQUEST_ID_HEADER: call.request.request_id}
        return _json(document.status, document, PROBLEM_JSON, headers)

    def _route(self, call: _Call) -> HttpResponse:
        request = call.request
        if request.path != "/":
            raise Refused("not-found", "The only path is /.")
        if request.method == "GET":
            return self._health(call)
        if request.method != "POST":
            raise Refused("method-not-allowed", f"Use one of {METHODS}.", headers={"allow": METHODS})
        if len(request.body) > contract.MAX_BODY:
            raise Refused("payload-too-large", f"The body has more than {contract.MAX_BODY:,} bytes.")
        if media_type(request.headers.get("content-type", JSON)) != JSON:
            raise Refused("unsupported-media-type", f"Send the body as {JSON}.")
        return self._picture(call, GenerateRequest.from_json(request.body))

    def _health(self, call: _Call) -> HttpResponse:
        engine = self.engine
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
        return _json(200, health, JSON, {REQUEST_ID_HEADER: call.request.request_id})

    def _picture(self, call: _Call, request: GenerateRequest) -> HttpResponse:
        engine = self.engine
        generation = request.resolve(engine.manifest.defaults)
        engine.manifest.limits.check(generation)
        identity = engine.manifest.identity
        call.entry |= {"model": identity.name, "engine": engine.name, "parameters": request_log.parameters(generation)}
        drawing = self._draw(call, engine, generation)
        before = time.monotonic()
        body = _encode(drawing, generation, identity)
        call.timings["compress"] = time.monotonic() - before
        call.entry["timings"] = {phase: round(seconds, 4) for phase, seconds in call.timings.items()}
        response = HttpResponse(
            200,
            {
                "content-type": MEDIA_TYPES[generation.image_format],
                SEED_HEADER: str(generation.seed),
                MODEL_HEADER: _header(f"{identity.name}@{identity.revision}"),
                ENGINE_HEADER: _header(f"{engine.name} {engine.precision}"),
                WARNINGS_HEADER: encode_warnings(drawing.warnings),
                REQUEST_ID_HEADER: call.request.request_id,
                TIMING_HEADER: encode_timings(call.timings),
            },
            body,
        )
        if event.rendered_size(response) > contract.MAX_PAYLOAD:
            raise Refused(
                "reply-too-large",
                f"The {generation.image_format} has {len(body):,} bytes, more than a reply can carry: ask for "
                "image_format jpeg or webp, or for a smaller size.",
            )
        return response

    def _draw(self, call: _Call, engine: Engine, generation: Generation) -> EngineOutput:
        patience = -1 if call.soft_deadline is None else max(0.0, call.soft_deadline - time.monotonic())
        if not self._drawing.acquire(timeout=patience):
            raise Refused("timed-out", "The requests before this one took all of the function's time.")
        try:
            sent_at = call.request.sent_at
            on_the_way = 0.0 if sent_at is None else max(0.0, time.time() - sent_at - (time.monotonic() - call.started))
            call.timings["queue"] = on_the_way + time.monotonic() - call.started
            if not engine.loaded:
                before = time.monotonic()
                engine.load()
                call.timings["load"] = time.monotonic() - before
            drawing = engine.generate(generation, functools.partial(_step, call))
        except Cancelled:
            if not call.late:
                raise
            raise Refused(
                "timed-out", "The function's time was almost up: ask for fewer steps or a smaller size."
            ) from None
        finally:
            self._drawing.release()
        call.timings |= drawing.timings
        return drawing


def _step(call: _Call, done: int, total: int) -> bool:
    if call.on_step is not None and call.on_step(done, total):
        return True
    return call.late


def _encode(drawing: EngineOutput, generation: Generation, identity: contract.ModelIdentity) -> bytes:
    from PIL import Image

    from lambdiff.protocol import metadata

    return metadata.encode(Image.fromarray(drawing.pixels), metadata.ImageMetadata.of(generation, identity))


def _json(status: int, document: msgspec.Struct, content_type: str, headers: dict[str, str]) -> HttpResponse:
    return HttpResponse(status, {"content-type": content_type, **headers}, msgspec.json.encode(document))


def _header(value: str) -> str:
    printable = "".join(character if " " <= character <= "~" else "?" for character in value)
    return printable[:200]


def _raise(error: Exception) -> HttpResponse:
    raise error
