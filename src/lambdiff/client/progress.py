"""Estimate how long an image will take, from the last one from the same endpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from lambdiff import config
from lambdiff.errors import NOT_JSON, MetadataError
from lambdiff.file_locks import locked
from lambdiff.files import open_regular, write_atomically

if TYPE_CHECKING:
    from lambdiff.client.image import GeneratedImage

_KEPT: Final = 50
"""How many endpoints are remembered. `lambdiff serve --port 0` is another one each time."""


class _Last(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last image from an endpoint.

    Attributes:
        seconds: that the caller waited.
        load, denoise: seconds of these phases.
        steps, pixels: what the denoising depends on; 0 if unknown.
    """

    seconds: float
    load: float = 0.0
    denoise: float = 0.0
    steps: int = 0
    pixels: int = 0


def expected_seconds(url: str, *, steps: int | None = None, pixels: int | None = None) -> float | None:
    """Return the seconds that an image from this endpoint is expected to take, without loading the model.

    Args:
        url: the endpoint.
        steps: denoising steps; None for as many as the last image had.
        pixels: width times height; None for as many as the last image had.

    Returns:
        None if there was no image before.
    """
    last = _read().get(url)
    if last is None:
        return None
    scale = 1.0
    if last.steps and last.pixels:
        scale = (steps or last.steps) / last.steps * (pixels or last.pixels) / last.pixels
    return last.seconds - last.load + last.denoise * (scale - 1)


def expected_load_seconds(url: str) -> float:
    """Return the seconds that the last image's request took to load the model; 0 if it was in memory or is unknown."""
    last = _read().get(url)
    return last.load if last else 0.0


def remember_image(url: str, image: GeneratedImage) -> None:
    """Save what an image took as the expectation for the next one."""
    timings = image.timings
    try:
        used = image.parameters
    except MetadataError:
        remember_seconds(url, timings["total"])
        return
    remember_seconds(
        url,
        timings["total"],
        load=timings.get("load", 0.0),
        denoise=timings.get("denoise", 0.0),
        steps=used.num_inference_steps,
        pixels=used.width * used.height,
    )


def remember_seconds(
    url: str, seconds: float, *, load: float = 0.0, denoise: float = 0.0, steps: int = 0, pixels: int = 0
) -> None:
    """Save the duration of an image as the expectation for the next one. A failure to save is ignored."""
    last = _Last(seconds=round(seconds, 2), load=round(load, 2), denoise=round(denoise, 2), steps=steps, pixels=pixels)
    with contextlib.suppress(Exception), locked(_path(), patience=1.0):
        known = _read()
        known.pop(url, None)
        latest = dict([*known.items(), (url, last)][-_KEPT:])
        write_atomically(_path(), msgspec.json.encode(latest), force=True, mode=0o600)


def _read() -> dict[str, _Last]:
    try:
        with open_regular(_path()) as stream:
            return msgspec.json.decode(stream.read(), type=dict[str, _Last])
    except (OSError, *NOT_JSON):
        return {}


def _path() -> Path:
    return config.home() / "seconds.json"
