"""Stable Diffusion 1 and 2, and latent consistency models: CLIP's text encoder, one UNet, one autoencoder."""

from __future__ import annotations

from pathlib import Path

import transformers

from lambdiff.bake import modules
from lambdiff.bake.parameters import Progress, StoragePrecision
from lambdiff.bake.part_converter import PartConverter
from lambdiff.bake.pipeline_folder import ModelTraits, PipelineConfig


def convert(
    folder: Path,
    destination: Path,
    pipeline: PipelineConfig,
    *,
    precision: StoragePrecision,
    tiny_decoder: Path | None,
    deepcache: bool,
    progress: Progress,
) -> ModelTraits:
    """Write `text_encoder`, `unet` and `decoder` as OpenVINO models, and `tokenizer.json`, into `destination`.

    Args:
        folder: a checked diffusers folder.
        destination: an existing folder.
        pipeline: the pipeline's configuration.
        precision: how weights are stored.
        tiny_decoder: the folder of an AutoencoderTiny that replaces the pipeline's own autoencoder.
        deepcache: whether the UNet must support DeepCache, see `engine/deepcache.py`.
        progress: called before each step.

    Raises:
        ModelError: a part cannot be loaded, is not supported, or differs from the original once converted.
    """
    parts = PartConverter(
        folder, destination, pipeline, precision=precision, tiny_decoder=tiny_decoder, progress=progress
    )
    text = parts.read_text_config()
    length = parts.write_tokenizer("tokenizer", text.max_length)
    parts.convert_text_encoder(modules.TextEncoder, transformers.CLIPTextModel, "text_encoder", length)
    parts.convert_unet(modules.UNet, length, text.width)
    if deepcache:
        parts.check_deepcache()
    parts.convert_decoder()
    return parts.traits("stable_diffusion", length)
