"""The interface of a family's pipeline, and the data that it passes from encoding to denoising."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lambdiff.engine.manifest import Manifest
from lambdiff.engine.runtime import Part, Runtime, Shape
from lambdiff.engine.start_image import StartLatents
from lambdiff.protocol.contract import Generation, OnStep

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Conditioning:
    """A request's encoded prompts.

    Attributes:
        inputs: inputs of the denoiser by name. The last sample of each belongs to the prompt; if guided, the one before
            it belongs to the negative prompt.
        guided: whether there is an unconditional pass.
        warnings: messages for the caller about what the model will not read or follow.
        start: the start image, which the engine adds if the request has one.
    """

    inputs: Mapping[str, Array]
    guided: bool
    warnings: list[str] = field(default_factory=list)
    start: StartLatents | None = None

    def batch(self, size: int) -> dict[str, Any]:
        """Return the inputs of a call with `size` samples: 2 with an unconditional pass, 1 without."""
        return {name: value[-size:] for name, value in self.inputs.items()}


class Pipeline(Protocol):
    """How one family of models turns text into latents. The engine decodes and finishes them.

    Args:
        folder: a baked folder.
        manifest: its manifest.
        runtime: runs the parts. The constructor must not call it, because the parts are loaded afterwards.
    """

    def __init__(self, folder: Path, manifest: Manifest, runtime: Runtime) -> None: ...

    @property
    def parts(self) -> Sequence[Part]:
        """The models that the pipeline calls."""

    def load(self) -> None:
        """Read whatever the pipeline needs besides its parts, while these are compiled by other threads.

        Raises:
            Exception: a file is missing or damaged.
        """

    def shapes(self, generation: Generation) -> dict[str, Collection[Shape]]:
        """Return, by part, the shapes that a request calls it with if its prompts have one piece each."""

    def encode(self, generation: Generation) -> Conditioning:
        """Turn the prompts into inputs of the denoiser."""

    @property
    def estimate(self) -> Array | None:
        """The clean latents that the last step of the denoiser implies, for previews; None before the first."""

    def denoise(self, generation: Generation, conditioning: Conditioning, on_step: OnStep | None) -> Array:
        """Turn seeded noise, on the start image if there is one, into clean latents.

        Their shape is `latents.latents_shape(generation, manifest)`.

        Raises:
            Cancelled: `on_step` returned True.
            InvalidRequest: the scheduler cannot run this number of steps.
        """
