"""Headers of the contract: their names, the media types, and how warnings and timings are encoded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import msgspec

from lambdiff.errors import NOT_JSON
from lambdiff.protocol.contract import ImageFormat

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
    """Decode a warnings header; anything but a JSON list of strings counts as no warnings."""
    try:
        return msgspec.json.decode(value or "[]", type=list[str])
    except NOT_JSON:
        return []


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
        >>> decode_timings('denoise;dur=1500.0, cache;desc="x"')
        {'denoise': 1.5}
    """
    timings: dict[str, float] = {}
    for entry in (value or "").split(","):
        phase, _, duration = entry.strip().partition(";dur=")
        try:
            timings[phase] = float(duration) / 1000
        except ValueError:
            continue
    return timings
