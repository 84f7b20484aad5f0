"""Model families: the module that converts each class of pipeline for the OpenVINO engine.

To add a family, add a module with a `convert` function, and its pipeline classes to `ENGINES` and `converter`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, Protocol

from lambdiff.bake import pipeline_folder
from lambdiff.bake.parameters import Progress, StoragePrecision
from lambdiff.bake.pipeline_folder import ModelTraits, PipelineConfig
from lambdiff.engine.manifest import EngineName
from lambdiff.errors import ModelError
from lambdiff.protocol.contract import PromptSyntax

ENGINES: Final[dict[str, tuple[EngineName, ...]]] = {
    "StableDiffusionPipeline": ("openvino", "diffusers"),
    "LatentConsistencyModelPipeline": ("openvino", "diffusers"),
    "StableDiffusionXLPipeline": ("openvino", "diffusers"),
}
"""diffusers' class of a pipeline -> the engines that run it. Classes for image to image and inpainting have the same
components, and count as these. Others need more than a prompt and pictures, or have no UNet."""

_PROMPT_SYNTAXES: Final[dict[str, tuple[PromptSyntax, ...]]] = {
    "StableDiffusionPipeline": ("plain", "a1111"),
    "LatentConsistencyModelPipeline": ("plain", "a1111"),
    "StableDiffusionXLPipeline": ("plain", "a1111"),
}
"""diffusers' class of a pipeline -> the syntaxes of prompts that it reads, the default last."""

_STABLE_DIFFUSION: Final = {
    "scheduler": (),  # see `scheduler_config.py`
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
}
_COMPONENTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "StableDiffusionPipeline": _STABLE_DIFFUSION,
    "LatentConsistencyModelPipeline": _STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": _STABLE_DIFFUSION
    | {"text_encoder_2": ("CLIPTextModelWithProjection",), "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast")},
}
"""Class of a pipeline -> its components -> the classes that each may have; empty if that is checked elsewhere."""


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


def check_engine(folder: Path, index: dict[str, Any], engine: EngineName) -> None:
    """Reject a pipeline that the engine cannot run.

    Args:
        folder: the pipeline's folder, named in the error.
        index: the content of its `model_index.json`.
        engine: the engine that will run the model.

    Raises:
        ModelError: it runs other classes only, or a component is missing or of another class.
    """
    named, pipeline_class = index.get("_class_name"), pipeline_folder.text_to_image_class(index)
    engines = ENGINES.get(pipeline_class, ())
    if engine not in engines:
        others = f"Bake a text-to-image pipeline: {', '.join(ENGINES)}."
        fix = f'Pass `engine="{engines[0]}"`.' if engines else others
        raise ModelError(f"{folder} is a {named}, which the engine {engine} does not run.", fix=fix)
    known = _COMPONENTS[pipeline_class]
    for component in (*known, *pipeline_folder.required_components(index)):
        found = pipeline_folder.component_class(index, component)
        if found is None or component not in known:
            which = "lacks" if found is None else "has"
            detail = f"{folder} {which} the component {component}"
            raise ModelError(f"{detail}, unlike other {named}s.", fix="Bake a complete text-to-image model.")
        if known[component] and found not in known[component]:
            raise ModelError(
                f"The {component} of {folder} is a {found}, which is not supported.",
                fix=f"Bake a model with one of {', '.join(known[component])}.",
            )


def prompt_syntaxes(pipeline_class: str, vocabulary: Collection[str]) -> tuple[PromptSyntax, ...]:
    """Return the syntaxes of prompts that a model reads, the default last.

    A model with a list of the words that it knows was trained on short plain texts.
    """
    return ("plain",) if vocabulary else _PROMPT_SYNTAXES.get(pipeline_class, ("plain",))


def converter(pipeline_class: str) -> Converter:
    """Return the converter for a pipeline class that the OpenVINO engine runs."""
    match pipeline_class:
        case "StableDiffusionPipeline" | "LatentConsistencyModelPipeline":
            from lambdiff.bake import stable_diffusion  # imports torch

            return stable_diffusion.convert
        case "StableDiffusionXLPipeline":
            from lambdiff.bake import stable_diffusion_xl  # imports torch

            return stable_diffusion_xl.convert
        case _:
            raise ValueError(pipeline_class)
