"""A Lambda function with the stub engine; the variable `STUB` holds the engine's arguments as JSON."""

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
    """Do what `lambdiff.handler.function.handler` does, with this app."""
    return app.invoke(event, context)
