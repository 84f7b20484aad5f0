"""The image encoder of an autoencoder, which start images need: 34 M parameters in Stable Diffusion, 1.2 M in TAESD."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import diffusers
import torch

from lambdiff.bake import modules, pipeline_folder
from lambdiff.bake.convert import convert_module
from lambdiff.bake.parameters import Progress
from lambdiff.bake.rounding import WeightFormat
from lambdiff.engine.openvino import ENCODER

_EXAMPLE_SIZE: Final = (72, 56)
"""Height and width of the example input in pixels."""


def convert(autoencoder: Path, destination: Path, *, precision: str, progress: Progress) -> None:
    """Write `encoder` as an OpenVINO model into `destination`.

    Args:
        autoencoder: the folder of the AutoencoderKL or AutoencoderTiny that also decodes.
        destination: an existing folder.
        precision: how the model's weights are stored. Like the decoder, the encoder never has fewer than 16 bits.
        progress: called before each step.

    Raises:
        ModelError: the encoder cannot be loaded, or differs from the original once converted.
    """
    config = pipeline_folder.read_json(autoencoder / "config.json")
    is_tiny = config.get("_class_name") == "AutoencoderTiny"
    autoencoder_class = diffusers.AutoencoderTiny if is_tiny else diffusers.AutoencoderKL
    module = modules.Encoder(modules.load(autoencoder_class, autoencoder))
    weights: WeightFormat = "f32" if precision == "f32" else "f16"
    inputs = {"image": torch.rand((1, 3, *_EXAMPLE_SIZE), generator=torch.Generator().manual_seed(0)) * 2 - 1}
    convert_module(module, inputs, destination / f"{ENCODER}.xml", weights, rewrites=(), progress=progress)
