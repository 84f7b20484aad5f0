"""A pipeline's text encoders, and whether its UNet can be called with their output alone.

Checked before any weights are loaded: a UNet that needs more, such as an image or a mask, would fail at each request.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambdiff.bake import empty_models, pipeline_folder
from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.engine.base import first_line
from lambdiff.errors import ModelError

_DEFAULTS: Final[dict[str, Any]] = {"hidden_size": 512, "vocab_size": 49408, "max_position_embeddings": 77}
_PROJECTION: Final = 512
"""The values of transformers' CLIPTextConfig for keys that a configuration leaves out."""
_UNET_DEFAULTS: Final[dict[str, Any]] = {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 1280}
"""The values of diffusers' UNet2DConditionModel."""
_ALLOWED: Final[dict[str, tuple[str | None, ...]]] = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "encoder_hid_dim_type": (None, "text_proj"),
}
"""Settings of the UNet that add inputs -> the values that do not."""
_POOLED: Final[dict[str, tuple[str | None, ...]]] = {"StableDiffusionXLPipeline": ("text_time",)}
"""Class of a pipeline -> the addition embeddings that it computes. Others compute none; `text` needs no input."""
_SHORTEST: Final = 3
"""Tokens of a prompt: start, end and one between them."""
_TOKENS: Final = 3
"""The length of the prompt for a trial, since UNets read prompts of any length."""
_SIZES: Final = 6
"""How many numbers a Stable Diffusion XL UNet reads besides the pooled prompt: height and width before and after
cropping, and the position of the crop. The refiner reads an aesthetic score instead of the size after cropping."""


@dataclass(frozen=True)
class TextConfig:
    """The configuration of a text encoder.

    Attributes:
        width: of the embedding of a token.
        vocabulary: the number of different tokens.
        max_length: the largest number of tokens.
    """

    width: int
    vocabulary: int
    max_length: int


def read_config(folder: Path) -> TextConfig:
    """Read the configuration of a CLIP text encoder.

    Raises:
        ModelError: it is missing, or sets something that is not supported.
    """
    config = _DEFAULTS | pipeline_folder.read_json(folder / "config.json")
    if config.get("use_attention_mask"):
        raise ModelError(f"{folder} sets use_attention_mask, which is not supported.", fix="Bake another model.")
    sizes = [config[key] for key in _DEFAULTS]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ModelError(f"{folder / 'config.json'} has sizes that are no numbers.", fix="Save the model again.")
    return TextConfig(*sizes)


def prompt_length(folder: Path, index: dict[str, Any]) -> int:
    """Return the number of tokens of a prompt that all tokenizers and text encoders of a pipeline read.

    A tokenizer without a limit, or with a larger one than its text encoder, gets that of the encoder.

    Raises:
        ModelError: a configuration is damaged.
    """
    components = pipeline_folder.required_components(index)
    lengths = [read_config(folder / name).max_length for name in components if name.startswith("text_encoder")]
    for name in components:
        path = folder / name / "tokenizer_config.json"
        if name.startswith("tokenizer") and path.exists():
            stated = pipeline_folder.read_json(path).get("model_max_length")
            if isinstance(stated, int | float) and stated >= _SHORTEST:
                lengths.append(int(stated))
    return min(lengths)


def read_projection(folder: Path) -> int:
    """Return the width of the pooled vector of a CLIP text encoder with a projection."""
    return int(pipeline_folder.read_json(folder / "config.json").get("projection_dim", _PROJECTION))


def check_unet(pipeline: PipelineConfig, folder: Path) -> None:
    """Reject a UNet that needs other inputs than noisy latents, a timestep and embedded text.

    Args:
        pipeline: the pipeline's configuration.
        folder: its folder.

    Raises:
        ModelError: the UNet needs more, or does not fit the other parts.
    """
    config = _UNET_DEFAULTS | pipeline.unet
    allowed = {"addition_embed_type": _POOLED.get(pipeline.pipeline_class, (None, "text")), **_ALLOWED}
    for key, values in allowed.items():
        if config.get(key) not in values:
            raise ModelError(
                f"The UNet has the {key} {config.get(key)!r}, which is not supported.",
                fix="Bake a model that generates from a prompt alone.",
            )
    encoders = [name for name in pipeline_folder.required_components(pipeline.index) if name.startswith("text_encoder")]
    width = sum(read_config(folder / name).width for name in encoders)
    channels = pipeline.latents.channels
    projected = config.get("encoder_hid_dim") is not None
    expectations = {
        "in_channels": (
            pipeline.inpainting_channels if pipeline.inpainting else channels,
            "the decoder reads latents with a different number of channels",
        ),
        "out_channels": (channels, "the model does not generate images from text"),
        "encoder_hid_dim" if projected else "cross_attention_dim": (
            width,
            "the text encoder returns embeddings of a different width",
        ),
    }
    if config.get("addition_embed_type") == "text_time":
        _check_refiner(pipeline.index)
        conditions = _SIZES * config.get("addition_time_embed_dim", 0) + read_projection(folder / "text_encoder_2")
        expectations["projection_class_embeddings_input_dim"] = (
            conditions,
            "it does not fit the size conditions and the second text encoder's pooled vector",
        )
    for key, (expected, reason) in expectations.items():
        found = config.get(key)
        levels = found if isinstance(found, list) else [found]  # one number for all levels, or one for each
        if any(each != expected for each in levels):
            raise ModelError(
                f"The UNet's {key} is {found}, not {expected}: {reason}.",
                fix="Bake a text-to-image model whose parts fit together.",
            )
    _call(pipeline, folder, width)


def _call(pipeline: PipelineConfig, folder: Path, width: int) -> None:
    """Call a UNet without weights, which takes no memory, to find out whether its layers fit together.

    Raises:
        ModelError: they do not, or the installed version of diffusers cannot run them.
    """
    import torch

    side = 2 * pipeline.latents.multiple
    try:
        model = empty_models.make("UNet2DConditionModel", pipeline.unet)
        with torch.device("meta"), torch.no_grad():
            conditions = None
            if pipeline.unet.get("addition_embed_type") == "text_time":
                pooled = read_projection(folder / "text_encoder_2")
                conditions = {"text_embeds": torch.zeros(1, pooled), "time_ids": torch.zeros(1, _SIZES)}
            model(
                torch.zeros(1, (_UNET_DEFAULTS | pipeline.unet)["in_channels"], side, side),
                torch.zeros(1),
                torch.zeros(1, _TOKENS, width),
                timestep_cond=torch.zeros(1, embedding) if (embedding := pipeline.guidance_embedding) else None,
                added_cond_kwargs=conditions,
            )
    except Exception as error:  # layers that do not fit together raise errors of many kinds
        raise ModelError(
            f"The UNet of {folder} cannot be run: {type(error).__name__}: {first_line(error)}",
            fix="Bake a text-to-image model whose parts fit together.",
        ) from error


def _check_refiner(index: dict[str, Any]) -> None:
    if index.get("requires_aesthetics_score"):
        raise ModelError(
            "This is a refiner of Stable Diffusion XL, which only improves images of another model.",
            fix="Bake the base model.",
        )
