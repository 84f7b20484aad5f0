"""Model families: the module that converts each class of pipeline for the OpenVINO engine.

A new family is a new module with a `convert` function, and an entry in `converter`.
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
    """Writes the OpenVINO models and the tokenizer of one family into a folder."""

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
        ModelError: no family has this pipeline class.
    """
    pipeline_class = str(index.get("_class_name"))
    if pipeline_class in _STABLE_DIFFUSION:
        from lambdiff.bake import stable_diffusion  # imports torch

        return stable_diffusion.convert
    raise ModelError(
        f"{folder} is a {pipeline_class}; the OpenVINO engine runs {' or '.join(_SUPPORTED)}.",
        fix='Pass `engine="diffusers"`.',
    )
