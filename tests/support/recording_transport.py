"""A transport to the real handler that records requests, with timings on a fake clock."""

from __future__ import annotations

import dataclasses

from lambdiff.errors import LambdiffError
from lambdiff.handler.app import App
from lambdiff.protocol.contract import GenerateRequest, OnStep
from lambdiff.protocol.headers import TIMING_HEADER, decode_timings, encode_timings
from lambdiff.protocol.http import HttpRequest, HttpResponse
from support.stub_engine import StubEngine

NETWORK, LOAD = 0.25, 4.0
"""Seconds that a request spends outside the endpoint, and seconds that loading the model takes."""
PHASES = {"encode": 0.5, "decode": 0.25, "compress": 0.25}
"""Seconds of the other phases; each denoising step takes 0.5 s."""


class RecordingTransport:
    """Passes requests to the real handler with the stub engine, on a fake clock, and records them."""

    url = "in process"

    def __init__(self, engine: StubEngine) -> None:
        self.app = App(lambda: engine, raise_errors=True)
        self.requests: list[GenerateRequest] = []
        self.fail: dict[int, LambdiffError] = {}
        self.now = 0.0

    def clock(self) -> float:
        """Return the seconds that all requests have taken so far."""
        return self.now

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        self.now += NETWORK
        headers = {"content-type": "application/json"}
        request = HttpRequest(method=method, headers=headers, body=body)
        return self.generate(request, on_step) if method == "POST" else self.app.handle(request, on_step)

    def generate(self, request: HttpRequest, on_step: OnStep | None) -> HttpResponse:
        """Let the handler generate an image, and replace its timings."""
        fields = GenerateRequest.from_json(request.body)
        self.requests.append(fields)
        assert fields.num_inference_steps is not None
        if error := self.fail.get(fields.num_inference_steps):
            raise error
        reply = self.app.handle(request, on_step)
        timings = {**PHASES, "denoise": fields.num_inference_steps / 2}
        if "load" in decode_timings(reply.headers[TIMING_HEADER]):
            timings["load"] = LOAD
        self.now += sum(timings.values())
        header = encode_timings({"queue": 0.125, **timings})
        return dataclasses.replace(reply, headers={**reply.headers, TIMING_HEADER: header})

    def close(self) -> None:
        """Nothing to release."""

    @property
    def configurations(self) -> list[tuple[int | None, int | None]]:
        """(steps, width) of each request, in order."""
        return [(request.num_inference_steps, request.width) for request in self.requests]
