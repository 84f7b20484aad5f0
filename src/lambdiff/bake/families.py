"""Model families: the module that converts each class of pipeline for the OpenVINO engine.

To add a family, add a module with a `convert` function, and its pipeline classes to `ENGINES` and `converter`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from lambdiff.bake.parameters import Progress, StoragePrecision
from lambdiff.bake.pipeline_folder import ModelTraits, PipelineConfig
from lambdiff.engine.manifest import EngineName
from lambdiff.errors import ModelError
from lambdiff.protocol.contract import PromptSyntax

ENGINES: Final[dict[str, tuple[EngineName, ...]]] = {
    "StableDiffusionPipeline": ("openvino", "diffusers"),
    "LatentConsistencyModelPipeline": ("openvino", "diffusers"),
    "StableDiffusionXLPipeline": ("diffusers",),
}
"""diffusers' class of a pipeline -> the engines that run it. Other classes need more than a prompt, or have no UNet."""

PROMPT_SYNTAXES: Final[dict[str, tuple[PromptSyntax, ...]]] = {
    "StableDiffusionPipeline": ("plain", "a1111"),
    "LatentConsistencyModelPipeline": ("plain", "a1111"),
}
"""diffusers' class of a pipeline -> the syntaxes of prompts that it reads, the default last. Others read plain text."""


class Converter(Protocol):
    """Writes the OpenVINO models and the tokenizer of a pipeline into a folder."""

    def __call__(
        self,
        folder: Path,
        destination: Path,
        pipeline: PipelineConfig,
        *,
        precision: StoragePrecision,
        tiny_decoder: Path | None,
        deepcache: bool,
        progress: Progress,
    ) -> ModelTraits:
        """Convert a pipeline; see `stable_diffusion.convert`."""


def check_engine(folder: Path, pipeline_class: str, engine: EngineName) -> None:
    """Reject a pipeline that the engine cannot run.

    Args:
        folder: the pipeline's folder, named in the error.
        pipeline_class: the name of diffusers' class.
        engine: the engine that will run the model.

    Raises:
        ModelError: it runs other classes only.
    """
    engines = ENGINES.get(pipeline_class, ())
    if engine in engines:
        return
    others = f"Bake a text-to-image pipeline: {', '.join(ENGINES)}."
    fix = f'Pass `engine="{engines[0]}"`.' if engines else others
    raise ModelError(f"{folder} is a {pipeline_class}, which the engine {engine} does not run.", fix=fix)


def converter(pipeline_class: str) -> Converter:
    """Return the converter for a pipeline class that the OpenVINO engine runs."""
    match pipeline_class:
        case "StableDiffusionPipeline" | "LatentConsistencyModelPipeline":
            from lambdiff.bake import stable_diffusion  # imports torch

            return stable_diffusion.convert
        case _:
            raise ValueError(pipeline_class)
