"""Estimate how long an image will take: as long as the last one from the same endpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from lambdiff import config
from lambdiff.errors import NOT_JSON
from lambdiff.file_locks import locked
from lambdiff.files import write_atomically

_KEPT: Final = 50
"""How many endpoints are remembered. `lambdiff serve --port 0` is another one each time."""


def expected_seconds(url: str) -> float | None:
    """Return the seconds that the last image from this endpoint took; None if there was none."""
    return _read().get(url)


def remember_seconds(url: str, seconds: float) -> None:
    """Save the duration of an image as the expectation for the next one. A failure to save is ignored."""
    with contextlib.suppress(Exception), locked(_path(), patience=1.0):
        known = _read()
        known.pop(url, None)
        latest = dict([*known.items(), (url, round(seconds, 2))][-_KEPT:])
        write_atomically(_path(), msgspec.json.encode(latest), force=True, mode=0o600)


def _read() -> dict[str, float]:
    try:
        return msgspec.json.decode(_path().read_bytes(), type=dict[str, float])
    except (OSError, *NOT_JSON):
        return {}


def _path() -> Path:
    return config.home() / "seconds.json"
