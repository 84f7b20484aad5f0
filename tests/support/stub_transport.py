"""A transport to the real handler with the stub engine, in this process."""

from __future__ import annotations

from lambdiff.handler.app import App
from lambdiff.protocol.contract import OnStep
from lambdiff.protocol.http import HttpRequest, HttpResponse
from support.stub_engine import StubEngine


class StubTransport:
    """Passes requests to the real handler with the stub engine."""

    url = "in process"

    def __init__(self, engine: StubEngine) -> None:
        self.app = App(lambda: engine, raise_errors=True)
        self.closed = False

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        headers = {"content-type": "application/json"}
        return self.app.handle(HttpRequest(method=method, headers=headers, body=body), on_step)

    def close(self) -> None:
        self.closed = True
