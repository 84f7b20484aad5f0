"""The interface between the handler and an engine, independent of the library that runs the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from lambdiff.engine import cancellation
from lambdiff.engine import manifest as manifests
from lambdiff.errors import Cancelled
from lambdiff.protocol.contract import Generation, OnStep

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


LOADING: Final = "loading the model"
COMPILING: Final = "compiling the model"


@dataclass(frozen=True)
class EngineOutput:
    """One generated image, with timings and warnings.

    Attributes:
        pixels: RGB, 0..255, of the requested size: shape (height, width, 3).
        timings: seconds by phase: `encode` (not by every engine), `denoise`, `decode`, and `resize` for models with a
            native size.
        warnings: messages for the caller. They may quote the prompt, so they are never logged.
    """

    pixels: NDArray[np.uint8]
    timings: dict[str, float]
    warnings: list[str] = field(default_factory=list)


class Engine(Protocol):
    """A model folder that can generate images. Construction is cheap; `load` reads the weights."""

    name: str
    manifest: manifests.Manifest

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""

    @property
    def precision(self) -> str:
        """The UNet's arithmetic on this machine, such as `bf16` or `f32`; before loading, the manifest's precision."""

    @property
    def threads(self) -> int:
        """The number of threads that a request uses."""

    @property
    def activity(self) -> str:
        """What it does apart from generating, for a progress bar: `LOADING`, `COMPILING`, or empty."""

    def load(self) -> None:
        """Read the weights. A second call does nothing.

        Raises:
            ModelError: the folder is unusable.
            MissingExtra: the engine's library is not installed.
        """

    def generate(self, generation: Generation, on_step: OnStep | None = None) -> EngineOutput:
        """Generate one image. The same `generation` gives the same pixels. Loads the model if necessary.

        Args:
            generation: the complete request.
            on_step: called after each denoising step with (steps done, steps in total). Returning True cancels.

        Raises:
            Cancelled: `on_step` returned True.
            InvalidRequest: the scheduler cannot run this number of steps.
            ModelError, MissingExtra: as `load`.
        """


def report_step(on_step: OnStep | None, done: int, total: int) -> None:
    """Report a finished step to the caller.

    Raises:
        Cancelled: `on_step` returned True, or a condition of `cancellation` holds.
    """
    if on_step is not None and on_step(done, total):
        raise Cancelled(f"Stopped after step {done} of {total}.")
    cancellation.check()


def first_line(error: BaseException) -> str:
    """Return the first 200 characters of an error's first line, or its type if it has no message."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


@runtime_checkable
class SupportsPreviews(Protocol):
    """An engine that can show an image before it is finished."""

    @property
    def can_preview(self) -> bool:
        """Whether previews are fast enough."""

    def preview(self) -> NDArray[np.uint8] | None:
        """Return the pixels so far, if it is called from `on_step` of a request: (height, width, 3)."""
