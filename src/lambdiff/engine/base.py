"""What the handler asks of an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lambdiff.engine import manifest as manifests
from lambdiff.protocol.contract import Generation
from lambdiff.protocol.http import OnStep

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class EngineOutput:
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

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> EngineOutput:
        """Draw one picture; the same `generation` gives the same pixels. Loads first if need be.

        Raises:
            Cancelled: `on_step` returned True.
        """
