"""The handler: from a request to a response.

`App` is used by the Lambda function (`function.py`), by `lambdiff serve` and by the in-process transport.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lambdiff import forks
from lambdiff.engine import cancellation
from lambdiff.engine.base import LOADING, Engine, EngineOutput, SupportsPreviews
from lambdiff.engine.manifest import Approximations
from lambdiff.engine.timing import timed
from lambdiff.errors import Cancelled, InvalidRequest, MalformedRequest
from lambdiff.handler import event, request_log
from lambdiff.handler.call import Call
from lambdiff.handler.refusal import Refusal
from lambdiff.handler.responses import encode_image, health_response, image_response, problem_response
from lambdiff.protocol import pictures
from lambdiff.protocol.contract import MAX_BODY, MAX_PAYLOAD, NO_PICTURES, GenerateRequest, Generation, OnStep
from lambdiff.protocol.headers import JSON
from lambdiff.protocol.http import HttpRequest, HttpResponse, media_type

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METHODS: Final = "GET, POST"


class App:
    """Answers requests with one engine, which is opened and loaded at the first request that needs it.

    Images are generated one after the other: an engine uses every core, and Lambda sends one request at a time.

    Args:
        open_engine: returns the engine; called again after a failure.
        write_log: takes one entry per request.
        raise_errors: raise errors that the request did not cause, instead of answering 500 or 503. For callers in the
            same process, which can handle a `MissingExtra`.
        clock: the monotonic time in seconds; the requests' deadlines refer to it.

    Example:
        >>> from lambdiff.engine.factory import open_engine
        >>> app = App(lambda: open_engine(folder), write_log=request_log.discard)
        >>> app.handle(HttpRequest(method="POST", body=b'{"prompt": "a cat"}')).content_type
        'image/png'
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        *,
        write_log: request_log.Log = request_log.discard,
        raise_errors: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_engine = open_engine
        self._write_log = write_log
        self._raise_errors = raise_errors
        self._clock = clock
        self._engine: Engine | None = None
        self.renew_after_fork()
        forks.renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Replace the locks; see `forks`."""
        self._opening = threading.Lock()
        self._generating = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine, which may not be loaded yet.

        Raises:
            ModelError, MissingExtra: it cannot be opened.
        """
        with self._opening:
            if self._engine is None:
                with forks.postponed():  # which imports the engine's library
                    self._engine = self._open_engine()
            return self._engine

    @property
    def activity(self) -> str:
        """What the engine does apart from generating; see `Engine.activity`."""
        return LOADING if self._engine is None else self._engine.activity

    @property
    def can_preview(self) -> bool:
        """Whether `preview` returns something while steps are reported."""
        engine = self.engine
        return isinstance(engine, SupportsPreviews) and engine.can_preview

    def preview(self) -> NDArray[np.uint8] | None:
        """Return what the image looks like so far; see `SupportsPreviews`."""
        engine = self._engine
        return engine.preview() if isinstance(engine, SupportsPreviews) else None

    def invoke(self, lambda_event: object, context: event.LambdaContext | None = None) -> dict[str, Any]:
        """Answer an event from a Function URL.

        Raises:
            Cancelled: the caller's own condition holds; see `cancellation.cancelled_if`.
        """
        try:
            request = event.parse(lambda_event, context)
        except MalformedRequest as error:
            request = HttpRequest(method="", request_id=event.request_id(lambda_event, context))
            call = Call(request, clock=self._clock)
            return event.render(self._log(call, self._refuse(call, error)))
        return event.render(self.handle(request))

    def handle(self, request: HttpRequest, on_step: OnStep | None = None) -> HttpResponse:
        """Answer a request with an image, the health document, or a problem document.

        Args:
            request: as it arrived.
            on_step: see `Engine.generate`.

        Raises:
            Cancelled: `on_step` returned True, or a condition of `cancellation.cancelled_if` holds.
        """
        call = Call(request, on_step, self._clock)
        try:
            response = self._route(call)
        except Cancelled:
            raise
        except Exception as error:
            if self._raise_errors and not isinstance(error, Refusal | InvalidRequest):
                raise
            response = self._refuse(call, error)
        return self._log(call, response)

    def warm_up(self) -> None:
        """Load the weights and generate one image, so that the first request does not have to wait for it."""
        engine = self.engine
        engine.load()
        defaults = engine.manifest.defaults
        if engine.manifest.approximations == Approximations():  # otherwise, different steps run different graphs
            defaults = msgspec.structs.replace(defaults, num_inference_steps=1)
        engine.generate(defaults.sample_request("warm up", engine.manifest.limits).resolve(defaults))

    def _route(self, call: Call) -> HttpResponse:
        request = call.request
        if request.path != "/":
            raise Refusal("not-found", "The only path is /.")
        if request.method == "GET":
            return health_response(self.engine, request.request_id)
        if request.method != "POST":
            raise Refusal("method-not-allowed", f"Use one of {METHODS}.", headers={"allow": METHODS})
        self._check_size(request.body)
        if media_type(request.headers.get("content-type", JSON)) != JSON:
            raise Refusal("unsupported-media-type", f"Send the body as {JSON}.")
        return self._generate(call, GenerateRequest.from_json(request.body))

    def _check_size(self, body: bytes) -> None:
        """Refuse a body that is too large, before it is parsed. Only pictures may be large."""
        if len(body) <= MAX_BODY:
            return
        if self.engine.manifest.limits.image == "unsupported":
            if len(body) <= pictures.MAX_BODY and b'"image"' in body:
                raise Refusal("invalid-value", f"image {NO_PICTURES}", [("image", NO_PICTURES)])
            raise Refusal("payload-too-large", f"The body has more than {MAX_BODY:,} bytes.")
        if len(body) > pictures.MAX_BODY or not pictures.check_body(body):
            limit = f"{MAX_BODY:,} bytes, or {pictures.MAX_BODY:,} with pictures"
            raise Refusal("payload-too-large", f"The body has more than {limit}.")

    def _generate(self, call: Call, request: GenerateRequest) -> HttpResponse:
        # 1. Complete the request with the model's defaults, and check it against the model's limits.
        engine = self.engine
        identity = engine.manifest.identity
        limits = engine.manifest.limits
        limits.check_pictures(request)
        generation = request.resolve(engine.manifest.defaults, limits)
        limits.check(generation)
        generation.decode_pictures()
        call.log_entry |= {
            "model": identity.name,
            "engine": engine.name,
            "parameters": request_log.parameters(generation),
        }
        # 2. Generate the pixels.
        with self._turn(call):
            output = self._run_engine(call, engine, generation)
        call.timings |= output.timings
        # 3. Encode them.
        with timed(call.timings, "compress"):
            body = encode_image(output, generation, engine)
        call.log_entry["timings"] = {phase: round(seconds, 4) for phase, seconds in call.timings.items()}
        # 4. Reply, unless the image exceeds Lambda's limit.
        response = image_response(
            body,
            generation,
            engine,
            warnings=output.warnings,
            timings=call.timings,
            request_id=call.request.request_id,
        )
        if event.rendered_size(response) > MAX_PAYLOAD:
            raise Refusal(
                "reply-too-large",
                f"The {generation.image_format} has {len(body):,} bytes, more than a reply can carry; request "
                "image_format jpeg or webp, or a smaller size.",
            )
        return response

    @contextmanager
    def _turn(self, call: Call) -> Iterator[None]:
        """Wait until no other image is being generated, and record how long the request has waited."""
        while not self._generating.acquire(timeout=cancellation.INTERVAL_S):
            cancellation.check()
            if call.seconds_left == 0:
                raise Refusal("timed-out", "The time ran out while earlier requests were running.")
        try:
            sent_at = call.request.sent_at
            in_transit = 0.0 if sent_at is None else max(0.0, time.time() - sent_at - call.seconds)
            call.timings["queue"] = in_transit + call.seconds
            yield
        finally:
            self._generating.release()

    def _run_engine(self, call: Call, engine: Engine, generation: Generation) -> EngineOutput:
        with cancellation.native_code():
            if not engine.loaded:
                with timed(call.timings, "load"):
                    engine.load()
            try:
                # Loading is completed even if this request has no time left, because the next one needs it too.
                with cancellation.cancelled_if(lambda: call.seconds_left == 0, while_loading=False):
                    return engine.generate(generation, call.after_step)
            except Cancelled:
                if call.seconds_left != 0:
                    raise
                raise Refusal(
                    "timed-out", "The function's timeout was too close; request fewer steps or a smaller size."
                ) from None

    def _refuse(self, call: Call, error: Exception) -> HttpResponse:
        refusal = Refusal.of(error, call.request.request_id)
        call.log_entry["problem"] = refusal.slug
        if refusal.fields:
            # Unknown names may quote the prompt.
            known = GenerateRequest.__struct_fields__
            call.log_entry["fields"] = sorted({name if name in known else "?" for name in refusal.fields})
        if refusal.slug == "internal-error":
            call.log_entry["failure"] = request_log.failure(error)
        return problem_response(refusal, call.request.request_id)

    def _log(self, call: Call, response: HttpResponse) -> HttpResponse:
        self._write_log(
            {
                "level": "ERROR" if response.status >= 500 else "INFO",
                "request_id": call.request.request_id,
                "status": response.status,
                "seconds": round(call.seconds, 4),
                "bytes_in": len(call.request.body),
                "bytes_out": len(response.body),
                **call.log_entry,
            }
        )
        return response
