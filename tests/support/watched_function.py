"""lambdiff's entry point, with a log line for each compilation and each inference."""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import openvino

from lambdiff.engine import openvino as openvino_engine
from lambdiff.handler.function import handler

__all__ = ["handler"]

compile_model = openvino.Core.compile_model


def log_action(action: str) -> None:
    """Write a line in a single call, because parts are compiled in parallel and `print` writes line ends separately."""
    sys.stdout.write(json.dumps({"action": action}) + "\n")


def watched_compile(core: openvino.Core, *args: Any) -> Any:
    """Log the compilation, then compile."""
    log_action("compile")
    return compile_model(core, *args)


def observe(part: str, inputs: dict[str, Any]) -> None:
    """Log which part is about to run."""
    log_action(part)


openvino.Core.compile_model = watched_compile
openvino_engine.OpenVinoEngine = functools.partial(  # type: ignore[misc,assignment]
    openvino_engine.OpenVinoEngine, observe=observe
)
