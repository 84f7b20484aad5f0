"""Headers of the contract: their names, the media types, and how warnings and timings are encoded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from lambdiff.errors import NOT_JSON
from lambdiff.printable import printable
from lambdiff.protocol.contract import MAX_SEED, ImageFormat

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
MEDIA_TYPES: Final[dict[ImageFormat, str]] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

SEED_HEADER: Final = "lambdiff-seed"
MODEL_HEADER: Final = "lambdiff-model"
ENGINE_HEADER: Final = "lambdiff-engine"
WARNINGS_HEADER: Final = "lambdiff-warnings"
REQUEST_ID_HEADER: Final = "lambdiff-request-id"
TIMING_HEADER: Final = "server-timing"

MAX_WARNINGS_HEADER: Final = 2_048
"""Bytes of the warnings header's value."""
_MAX_ENTRIES: Final = 20
"""Warnings and timings that are read."""
_TIMING: Final = re.compile(r"\s*([a-z][a-z_-]{0,30});dur=(\d{1,8}(?:\.\d{1,6})?)\s*", re.ASCII)


def encode_warnings(warnings: Sequence[str]) -> str:
    """Encode warnings as a JSON list in one line of ASCII.

    The last ones are dropped until the value fits into `MAX_WARNINGS_HEADER`.

    Example:
        >>> encode_warnings(["Größe"])
        '["Gr\\\\u00f6\\\\u00dfe"]'
    """
    kept = list(warnings)
    while len(value := json.dumps(kept)) > MAX_WARNINGS_HEADER:
        kept.pop()
    return value


def decode_warnings(value: str | None) -> list[str]:
    """Decode a warnings header, safe to print; anything but a JSON list of strings counts as no warnings."""
    try:
        warnings = msgspec.json.decode(value or "[]", type=list[str])
    except NOT_JSON:
        return []
    return [printable(warning) for warning in warnings[:_MAX_ENTRIES]]


def encode_timings(timings: dict[str, float]) -> str:
    """Encode seconds by phase as a `Server-Timing` header, whose durations are milliseconds.

    Example:
        >>> encode_timings({"encode": 0.0123, "denoise": 1.5})
        'encode;dur=12.3, denoise;dur=1500.0'
    """
    return ", ".join(f"{phase};dur={seconds * 1000:.1f}" for phase, seconds in timings.items())


def decode_timings(value: str | None) -> dict[str, float]:
    """Decode a `Server-Timing` header to seconds by phase; entries of any other form are ignored.

    Example:
        >>> decode_timings('denoise;dur=1500.0, cache;desc="x", load;dur=nan, encode;dur=-1')
        {'denoise': 1.5}
    """
    matches = [_TIMING.fullmatch(entry) for entry in (value or "").split(",")[:_MAX_ENTRIES]]
    return {match[1]: float(match[2]) / 1000 for match in matches if match}


def decode_seed(value: str | None) -> int | None:
    """Decode a seed header; anything but a seed of the contract counts as none.

    Example:
        >>> decode_seed("7"), decode_seed("-7"), decode_seed("9" * 5_000)
        (7, None, None)
    """
    if not re.fullmatch(r"\d{1,10}", value or "", re.ASCII) or int(value or "") > MAX_SEED:
        return None
    return int(value or "")


def decode_request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id of a request from the headers of its reply; None if there is none, or if it is not like one.

    People paste it into a shell, so it may only have letters, digits and hyphens.
    """
    value = headers.get(REQUEST_ID_HEADER) or headers.get("x-amzn-requestid") or ""
    return value if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", value) else None
