"""What the handler asks of an engine. Copied into the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lambdiff.contract import Generation
from lambdiff.errors import MissingExtra
from lambdiff.handler import manifest as manifests

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OnStep = Callable[[int, int], "bool | None"]
"""Called after each denoising step with (steps done, steps in all); True cancels the request."""


@dataclass(frozen=True)
class Drawing:
    """What an engine gives back.

    Attributes:
        pixels: shape (height, width, 3), RGB, 0..255, of the requested size.
        timings: seconds by phase: encode, denoise, decode, and enlarge where the model draws one size only.
        warnings: what the caller should know, each a sentence; may quote the prompt, so never logged.
    """

    pixels: NDArray[np.uint8]
    timings: dict[str, float]
    warnings: list[str] = field(default_factory=list)


class Engine(Protocol):
    """A model folder, ready to draw. Construction is cheap; `load` reads the weights."""

    name: str
    manifest: manifests.Manifest

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""

    @property
    def precision(self) -> str:
        """The arithmetic of the UNet on this machine, `bf16` or `f32`, say; the manifest's before loading."""

    @property
    def threads(self) -> int:
        """Threads a request uses."""

    def load(self) -> None:
        """Read the weights; a second call does nothing.

        Raises:
            ModelError: the folder is unusable.
            MissingExtra: the engine's library is not installed.
        """

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> Drawing:
        """Draw one picture; the same `generation` gives the same pixels. Loads first if need be.

        Raises:
            Cancelled: `on_step` returned True.
        """


def open_engine(folder: Path, engine: str | None = None) -> Engine:
    """The engine for a baked folder, not loaded yet.

    Args:
        folder: a folder with a manifest.
        engine: overrides the manifest's; `diffusers` needs a folder that holds diffusers' files.

    Raises:
        ModelError: the folder is unusable.
        MissingExtra: the engine's library is not installed.
    """
    manifest = manifests.read(folder)
    if (engine or manifest.engine) == "diffusers":
        try:
            from lambdiff.handler.engine.diffusers import DiffusersEngine
        except ImportError:
            raise MissingExtra("The diffusers engine", "diffusers") from None
        return DiffusersEngine(folder, manifest)
    try:
        from lambdiff.handler.engine.openvino import OpenVinoEngine
    except ImportError:
        raise MissingExtra("The OpenVINO engine", "local") from None
    return OpenVinoEngine(folder, manifest)
