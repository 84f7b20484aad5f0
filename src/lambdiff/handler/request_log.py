"""One JSON line per request, for people and for CloudWatch Logs Insights.

No line contains a prompt or anything that may quote one: warnings, exception messages, names of unknown fields.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Final, TextIO

from lambdiff.protocol import pictures
from lambdiff.protocol.contract import Generation

Log = Callable[[dict[str, Any]], None]
"""Takes one entry per request."""
_MAX_LINES: Final = 100
_MAX_FRAMES: Final = 20


def to_stream(stream: TextIO | None = None) -> Log:
    """Return a log that writes to `stream`, or to the current `sys.stdout` at the time of writing."""

    def write(entry: dict[str, Any]) -> None:
        print(json.dumps(entry, separators=(",", ":")), file=stream or sys.stdout, flush=True)

    return write


def discard(entry: dict[str, Any]) -> None:
    """Drop the entry."""


def parameters(generation: Generation) -> dict[str, Any]:
    """Return the loggable fields of a generation: all, but only the lengths of prompts and the sizes of pictures."""
    values = {name: getattr(generation, name) for name in generation.__struct_fields__}
    values["prompt"] = len(generation.prompt)
    values["negative_prompt"] = len(generation.negative_prompt)
    for kind in pictures.KINDS:
        picture = values.pop(kind)
        if picture is not None:
            values[kind] = "x".join(map(str, picture.size))
    if generation.strength is None:
        del values["strength"]
    return {f"{name}_characters" if "prompt" in name else name: value for name, value in values.items()}


def failure(error: BaseException) -> list[str]:
    """Return the types and frames of an exception and its causes, without messages, code or local variables."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None and len(lines) < _MAX_LINES:
        lines.append(type(current).__qualname__)
        lines += [
            f"  {PurePath(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(current.__traceback__, limit=-_MAX_FRAMES)
        ]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return lines
