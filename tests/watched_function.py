"""lambdiff's own entry point; the log tells each time that weights are compiled and each graph that is run."""

from __future__ import annotations

import json
from typing import Any

import openvino

from lambdiff.handler.engine.openvino import OpenVinoEngine
from lambdiff.handler.function import handler

__all__ = ["handler"]

compile_model, run = openvino.Core.compile_model, OpenVinoEngine._run


def watched_compile(core: openvino.Core, *args: Any) -> Any:
    """Tell, and compile."""
    print(json.dumps({"did": "compile"}))
    return compile_model(core, *args)


def watched_run(engine: OpenVinoEngine, graph: Any, inputs: dict[str, Any]) -> Any:
    """Tell which graph, and run it."""
    print(json.dumps({"did": graph.part}))
    return run(engine, graph, inputs)


openvino.Core.compile_model = watched_compile
OpenVinoEngine._run = watched_run  # type: ignore[method-assign]
