"""The last step of every engine: from generated pixels to an `EngineOutput` of the requested size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdiff.engine.base import EngineOutput
from lambdiff.engine.pixels import crop, resize
from lambdiff.engine.timing import timed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lambdiff.engine.manifest import Manifest
    from lambdiff.protocol.contract import Generation


def finish(
    pixels: NDArray[np.uint8],
    generation: Generation,
    manifest: Manifest,
    *,
    timings: dict[str, float],
    warnings: list[str],
) -> EngineOutput:
    """Resize (models with a native size) or crop (all others) to the requested size.

    Args:
        pixels: as generated: shape (height, width, 3), with the size from `latents.generated_size`.
        generation: the request.
        manifest: the model's manifest.
        timings: seconds by phase so far; `resize` is added if the model has a native size.
        warnings: the warnings so far; a resized image adds one.
    """
    if not manifest.native_size:
        return EngineOutput(crop(pixels, generation.width, generation.height), timings, warnings)
    timings = dict(timings)
    with timed(timings, "resize"):
        pixels, resize_warnings = resize(pixels, generation.width, generation.height)
    return EngineOutput(pixels, timings, [*warnings, *resize_warnings])
