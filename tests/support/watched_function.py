"""lambdiff's own entry point; the log tells each time that weights are compiled and each graph that is run."""

from __future__ import annotations

import json
import sys
from typing import Any

import openvino

from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.handler.function import handler

__all__ = ["handler"]

compile_model, run = openvino.Core.compile_model, OpenVinoEngine._run


def tell(did: str) -> None:
    """A whole line at once: parts are compiled side by side, and `print` writes the end of a line by itself."""
    sys.stdout.write(json.dumps({"did": did}) + "\n")


def watched_compile(core: openvino.Core, *args: Any) -> Any:
    """Tell, and compile."""
    tell("compile")
    return compile_model(core, *args)


def watched_run(engine: OpenVinoEngine, graph: Any, inputs: dict[str, Any]) -> Any:
    """Tell which graph, and run it."""
    tell(graph.part)
    return run(engine, graph, inputs)


openvino.Core.compile_model = watched_compile
OpenVinoEngine._run = watched_run  # type: ignore[method-assign]
