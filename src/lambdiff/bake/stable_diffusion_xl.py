"""Stable Diffusion XL and smaller models of its form (SSD-1B, Segmind-Vega): two CLIP text encoders and one UNet."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import transformers

from lambdiff.bake import modules, text_models
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
    """Write both text encoders, `unet` and `decoder` as OpenVINO models, and both tokenizers, into `destination`.

    Arguments and errors are those of `stable_diffusion.convert`.
    """
    parts = PartConverter(
        folder, destination, pipeline, precision=precision, tiny_decoder=tiny_decoder, progress=progress
    )
    first, second = parts.read_text_config("text_encoder"), parts.read_text_config("text_encoder_2")
    # Their hidden states are put side by side, so that both read the same number of tokens.
    length = min(
        parts.write_tokenizer("tokenizer", first.max_length), parts.write_tokenizer("tokenizer_2", second.max_length)
    )
    parts.convert_text_encoder(modules.InnerTextEncoder, transformers.CLIPTextModel, "text_encoder", length)
    parts.convert_text_encoder(
        modules.PooledTextEncoder, transformers.CLIPTextModelWithProjection, "text_encoder_2", length
    )
    conditions = {
        "text_embeds": parts.noise(2, text_models.read_projection(folder / "text_encoder_2")),
        # Height and width before and after cropping, and the position of the crop.
        "time_ids": parts.noise(2, 6).abs() * 1024,
    }
    width = first.width + second.width
    parts.convert_unet(modules.ConditionedUNet, length, width, conditions, int8="int8_matrices")
    if deepcache:
        parts.check_deepcache()
    parts.convert_decoder()
    traits = parts.traits("stable_diffusion_xl", length)
    zeros = bool(pipeline.index.get("force_zeros_for_empty_prompt", True))
    return dataclasses.replace(traits, zeros_for_empty_negative=zeros)
