"""Model families: the module that converts each class of pipeline for the OpenVINO engine.

To add a family, add a module with a `convert` function and an entry in `converter`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol

from lambdiff.bake.parameters import Progress, StoragePrecision
from lambdiff.bake.pipeline_folder import ModelTraits
from lambdiff.errors import ModelError

_STABLE_DIFFUSION: Final = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")
_SUPPORTED: Final = (*_STABLE_DIFFUSION,)


class Converter(Protocol):
    """Writes the OpenVINO models and the tokenizer of a pipeline into a folder."""

    def __call__(
        self,
        folder: Path,
        destination: Path,
        *,
        precision: StoragePrecision,
        tiny_decoder: Path | None,
        deepcache: bool,
        progress: Progress,
    ) -> ModelTraits:
        """Convert a pipeline; see `stable_diffusion.convert`."""


def converter(folder: Path, index: dict[str, Any]) -> Converter:
    """Return the converter for a pipeline.

    Args:
        folder: the pipeline's folder, named in the error.
        index: the content of its `model_index.json`.

    Raises:
        ModelError: the pipeline class belongs to no family.
    """
    pipeline_class = str(index.get("_class_name"))
    if pipeline_class in _STABLE_DIFFUSION:
        from lambdiff.bake import stable_diffusion  # imports torch

        return stable_diffusion.convert
    raise ModelError(
        f"{folder} is a {pipeline_class}; the OpenVINO engine runs only {' and '.join(_SUPPORTED)}.",
        fix='Pass `engine="diffusers"`.',
    )
