"""Estimate how long an image will take: as long as the last one from the same endpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from lambdiff import config
from lambdiff.errors import NOT_JSON
from lambdiff.files import write_atomically


def expected_seconds(url: str) -> float | None:
    """Return the seconds that the last image from this endpoint took; None if there was none."""
    return _read().get(url)


def remember_seconds(url: str, seconds: float) -> None:
    """Save the duration of an image as the expectation for the next one. A failure to save is ignored."""
    content = msgspec.json.encode({**_read(), url: round(seconds, 2)})
    with contextlib.suppress(Exception):
        write_atomically(_path(), content, force=True, mode=0o600)


def _read() -> dict[str, float]:
    try:
        return msgspec.json.decode(_path().read_bytes(), type=dict[str, float])
    except (OSError, *NOT_JSON):
        return {}


def _path() -> Path:
    return config.home() / "seconds.json"
