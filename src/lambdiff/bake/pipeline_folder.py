"""A folder saved by diffusers' `save_pretrained`: its configuration files, read before any weights are loaded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambdiff.engine.manifest import EngineName, Family, Latents
from lambdiff.errors import InvalidRequest, ModelError

UNUSED_COMPONENTS: Final = ("safety_checker", "feature_extractor", "image_encoder")
_FIX_DAMAGED: Final = "Download or save the model again."
_SAMPLE_SIZE: Final = 64
"""The size of the latents if the UNet does not say: 512 pixels, as in Stable Diffusion 1."""


@dataclass(frozen=True)
class PipelineConfig:
    """What a pipeline's configuration files say about the model, read before any weights are loaded.

    Attributes:
        index: the content of `model_index.json`.
        unet: the configuration of the UNet.
        latents: shape and scale of the latents.
        sample_size: (height, width) of the latents that the UNet was trained on.
        guidance_embedding: width of the UNet's embedding of the guidance scale, or None.
        tiny_decoder: whether the pipeline's own autoencoder is an AutoencoderTiny.
    """

    index: dict[str, Any]
    unet: dict[str, Any]
    latents: Latents
    sample_size: tuple[int, int]
    guidance_embedding: int | None
    tiny_decoder: bool

    @property
    def pipeline_class(self) -> str:
        """The name of diffusers' class that generates from a prompt alone with the same components."""
        return text_to_image_class(self.index)

    @property
    def inpainting_channels(self) -> int:
        """The channels that a UNet for inpainting reads: latents, a mask, and the latents of what it keeps."""
        return 2 * self.latents.channels + 1

    @property
    def inpainting(self) -> bool:
        """Whether the UNet is one for inpainting."""
        return bool(self.unet.get("in_channels") == self.inpainting_channels)


@dataclass(frozen=True)
class ModelTraits:
    """The properties of the files that an engine will read.

    Attributes:
        precision: how the weights are stored, such as `f16`.
        latents: shape and scale of the latents.
        max_length: tokens of a prompt, padding included.
        tiny_decoder: whether the decoder is that of an AutoencoderTiny.
        family: which pipeline of the OpenVINO engine runs them.
        zeros_for_empty_negative: see `manifest.Text`.
    """

    precision: str
    latents: Latents
    max_length: int
    tiny_decoder: bool
    family: Family = "stable_diffusion"
    zeros_for_empty_negative: bool = False


def read_index(folder: Path) -> dict[str, Any]:
    """Read a pipeline's `model_index.json`, which names its class and those of its components.

    Raises:
        ModelError: the folder is not a pipeline.
    """
    return read_json(folder / "model_index.json")


def read(folder: Path) -> PipelineConfig:
    """Read the configuration of a pipeline.

    Raises:
        ModelError: the folder is not a pipeline, or a configuration is missing or not that of a supported model.
    """
    index = read_index(folder)
    unet = read_json(folder / "unet" / "config.json")
    latents, is_tiny = read_latents(folder / "vae", folder / "unet")
    return PipelineConfig(
        index=index,
        unet=unet,
        latents=latents,
        sample_size=_sample_size(unet, folder),
        guidance_embedding=unet.get("time_cond_proj_dim"),
        tiny_decoder=is_tiny,
    )


def _sample_size(unet: dict[str, Any], folder: Path) -> tuple[int, int]:
    """Return (height, width) in latents; diffusers takes one number for both, or two."""
    match unet.get("sample_size", _SAMPLE_SIZE) or _SAMPLE_SIZE:
        case int(side) if side > 0:
            return side, side
        case [int(height), int(width)] if height > 0 and width > 0:
            return height, width
        case other:
            raise ModelError(f"The UNet of {folder} has the sample_size {other!r}.", fix=_FIX_DAMAGED)


def text_to_image_class(index: dict[str, Any]) -> str:
    """Return the class of a pipeline in its `model_index.json`; for image to image and inpainting, its counterpart.

    Example:
        >>> text_to_image_class({"_class_name": "StableDiffusionXLInpaintPipeline"})
        'StableDiffusionXLPipeline'
    """
    return re.sub(r"(Img2Img|Inpaint)Pipeline$", "Pipeline", str(index.get("_class_name")))


def component_class(index: dict[str, Any], component: str) -> str | None:
    """Return the name of a component's class in a `model_index.json`, or None if the pipeline has no such component.

    Example:
        >>> component_class({"unet": ["diffusers", "UNet2DConditionModel"]}, "unet")
        'UNet2DConditionModel'
    """
    match index.get(component):
        case [str(), str(name)]:
            return name
        case _:
            return None


def required_components(index: dict[str, Any]) -> list[str]:
    """Return the components of a `model_index.json` that generation needs."""
    present = [name for name, value in index.items() if isinstance(value, list) and value[0]]
    return [name for name in present if name not in UNUSED_COMPONENTS]


def check_normalization(pipeline: PipelineConfig, folder: Path, engine: EngineName) -> None:
    """Reject latents that the OpenVINO engine cannot decode because they need more than a scaling factor.

    Of diffusers' classes, only that of Stable Diffusion XL reads their mean and standard deviation.

    Raises:
        ModelError: the model has such latents.
    """
    config = read_json(folder / "vae" / "config.json")
    normalized = config.get("latents_mean") is not None and config.get("latents_std") is not None
    if normalized and engine == "openvino" and pipeline.pipeline_class == "StableDiffusionXLPipeline":
        raise ModelError(
            f"The latents of {folder} have a mean and a standard deviation, which the engine openvino does not run.",
            fix='Pass `engine="diffusers"`.',
        )


def check_native_size(pipeline: PipelineConfig, native_size: tuple[int, int] | None) -> None:
    """Reject a native size that the model's latents cannot have.

    Raises:
        InvalidRequest: width or height is not a multiple of the model's step in pixels.
    """
    if native_size is None:
        return
    step = pipeline.latents.factor * pipeline.latents.multiple
    width, height = native_size
    if width % step or height % step:
        raise InvalidRequest(
            f"This model cannot generate {width}x{height}.", fix=f"Pass multiples of {step} as `native_size=`."
        )


def check_tiny_decoder(pipeline: PipelineConfig, folder: Path, tiny_decoder: Path | None) -> None:
    """Reject a tiny decoder for other latents than the pipeline's.

    Args:
        pipeline: the pipeline's configuration.
        folder: the pipeline's folder.
        tiny_decoder: the folder of an AutoencoderTiny; None if the pipeline keeps its own decoder.

    Raises:
        ModelError: it is not an AutoencoderTiny, or its latents have other channels or another scale.
    """
    if tiny_decoder is None:
        return
    latents, is_tiny = read_latents(tiny_decoder, folder / "unet")
    if not is_tiny:
        raise ModelError(f"{tiny_decoder} is not an AutoencoderTiny.", fix="Pass the folder of an AutoencoderTiny.")
    own = pipeline.latents
    if (latents.channels, latents.factor) != (own.channels, own.factor):
        raise ModelError(
            f"The decoder in {tiny_decoder} reads latents of {latents.channels} channels at 1/{latents.factor} of the "
            f"size; the model has {own.channels} channels at 1/{own.factor}.",
            fix="Pass a tiny decoder for this model's latents.",
        )


def read_latents(autoencoder: Path, unet: Path) -> tuple[Latents, bool]:
    """Read shape and scale of the latents.

    Args:
        autoencoder: the folder of the autoencoder that decodes them.
        unet: the folder of the UNet that denoises them.

    Returns:
        The latents, and whether the autoencoder is an AutoencoderTiny.

    Raises:
        ModelError: a configuration is missing, or is not that of a supported autoencoder.
    """
    config = read_json(autoencoder / "config.json", "latent_channels")
    is_tiny = config.get("_class_name") == "AutoencoderTiny"
    blocks = config.get("decoder_block_out_channels" if is_tiny else "block_out_channels")
    if not blocks:
        raise ModelError(f"{autoencoder} is not an autoencoder of a supported class.", fix="Bake another model.")
    # For configurations without the key: the defaults of diffusers' classes.
    scaling_factor = config.get("scaling_factor", 1.0 if is_tiny else 0.18215)
    levels = read_json(unet / "config.json").get("block_out_channels", (320, 640, 1280, 1280))
    latents = Latents(
        channels=config["latent_channels"],
        factor=2 ** (len(blocks) - 1),
        scaling_factor=scaling_factor,
        multiple=2 ** (len(levels) - 1),
    )
    return latents, is_tiny


def read_json(path: Path, *required: str) -> dict[str, Any]:
    """Read a JSON object from a model's folder.

    Raises:
        ModelError: the file is missing, is not a JSON object, or lacks a required key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{path} is missing.", fix="Pass a folder saved by diffusers' save_pretrained.") from None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}.", fix=_FIX_DAMAGED) from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object.", fix=_FIX_DAMAGED)
    if missing := [key for key in required if key not in content]:
        raise ModelError(f"{path} lacks the key {missing[0]}.", fix=_FIX_DAMAGED)
    return content
