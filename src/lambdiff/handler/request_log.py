"""One JSON line per request, for people and for CloudWatch Logs Insights.

No line holds a prompt, nor anything that may quote one: warnings, messages of exceptions, names of unknown fields.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, TextIO

from lambdiff.protocol.contract import Generation

Log = Callable[[dict[str, Any]], None]


def to_stream(stream: TextIO | None = None) -> Log:
    """A log that writes to `stream`, the standard output of the moment if None."""

    def write(entry: dict[str, Any]) -> None:
        print(json.dumps(entry, separators=(",", ":")), file=stream or sys.stdout, flush=True)

    return write


def discard(entry: dict[str, Any]) -> None:
    """A log that forgets."""


def parameters(generation: Generation) -> dict[str, Any]:
    """What may be logged of a generation: all but its prompts, of which only the length."""
    values = {name: getattr(generation, name) for name in generation.__struct_fields__}
    values["prompt"] = len(generation.prompt)
    values["negative_prompt"] = len(generation.negative_prompt)
    return {f"{name}_characters" if "prompt" in name else name: value for name, value in values.items()}


def failure(error: BaseException) -> list[str]:
    """Types and frames of an exception and its causes, innermost last, without messages, code or locals."""
    lines: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(lines) < 100:
        lines.append(type(seen).__qualname__)
        lines += [
            f"  {PurePath(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(seen.__traceback__, limit=-20)
        ]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return lines
