"""A Lambda function with the stub engine, whose arguments are read as JSON from the variable `STUB`."""

from __future__ import annotations

import json
import os
from typing import Any

from lambdiff.handler import request_log
from lambdiff.handler.app import App
from support.stub_engine import StubEngine

options: dict[str, Any] = json.loads(os.environ.get("STUB", "{}"))
if options.pop("fail_at_import", False):
    raise OSError("broken image")
if message := options.pop("error", None):
    options["error"] = RuntimeError(message)

app = App(lambda: StubEngine(**options), write_log=request_log.to_stream())


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Handle an event as `lambdiff.handler.function.handler` does."""
    return app.invoke(event, context)
