"""Converts the parts that all families have in common: CLIP text encoders with tokenizers, a UNet and a decoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final, NamedTuple

import diffusers
import nncf
import torch
import transformers
from torch import Tensor, nn

from lambdiff.bake import embedding, graph_rewrites, modules, pipeline_folder, text_models
from lambdiff.bake.convert import convert_module
from lambdiff.bake.parameters import Progress, StoragePrecision
from lambdiff.bake.pipeline_folder import ModelTraits, PipelineConfig
from lambdiff.bake.rounding import WeightFormat
from lambdiff.bake.text_models import TextConfig
from lambdiff.engine import deepcache as deepcache_graphs
from lambdiff.engine.core import core
from lambdiff.engine.manifest import Family
from lambdiff.errors import ModelError


class _Weights(NamedTuple):
    """How the weights of each part are stored."""

    text_encoder: WeightFormat
    unet: WeightFormat
    decoder: WeightFormat


# The decoder is never stored below f16: it has few weights, and its errors are visible. With w8a8 the UNet is quantized
# after its conversion; see `quantization.py`.
_WEIGHTS: Final[dict[StoragePrecision, _Weights]] = {
    "f32": _Weights("f32", "f32", "f32"),
    "f16": _Weights("f16", "f16", "f16"),
    "int8": _Weights("int8", "int8", "f16"),
    "w8a8": _Weights("int8", "f16", "f16"),
}


class PartConverter:
    """Converts the parts of one pipeline, each compared with its original.

    The example inputs are random, but the same in every run if the parts are converted in the same order.

    Args:
        folder: a checked diffusers folder.
        destination: an existing folder.
        pipeline: the pipeline's configuration.
        precision: how weights are stored.
        tiny_decoder: the folder of an AutoencoderTiny that replaces the pipeline's own autoencoder.
        progress: called before each step.

    Raises:
        ModelError: a configuration is missing or not supported. So do the methods; or else a part cannot be loaded, or
            differs from the original once converted.
    """

    def __init__(
        self,
        folder: Path,
        destination: Path,
        pipeline: PipelineConfig,
        *,
        precision: StoragePrecision,
        tiny_decoder: Path | None,
        progress: Progress,
    ) -> None:
        nncf.set_log_level(logging.ERROR)
        self._folder = folder
        self._destination = destination
        self._pipeline = pipeline
        self._precision: StoragePrecision = precision
        self._weights = _WEIGHTS[precision]
        self._autoencoder = tiny_decoder or folder / "vae"
        self._progress = progress
        self._latents, self._is_tiny = pipeline_folder.read_latents(self._autoencoder, folder / "unet")
        self._random = torch.Generator().manual_seed(0)

    def read_text_config(self, part: str = "text_encoder") -> TextConfig:
        """Read the configuration of a text encoder."""
        return text_models.read_config(self._folder / part)

    def write_tokenizer(self, name: str, positions: int) -> int:
        """Write a tokenizer as one file, padding included, and return the number of tokens of a prompt.

        Args:
            name: the name of the component, and of the file without its suffix.
            positions: the largest number of tokens that the text encoder reads.
        """
        folder = self._folder / name
        try:
            # The tokenizer of a model with embeddings must be read as it is; see `embedding.py`.
            class_name = pipeline_folder.component_class(self._pipeline.index, name)
            as_it_is = class_name == embedding.TOKENIZER_CLASS
            tokenizer_class = transformers.PreTrainedTokenizerFast if as_it_is else transformers.CLIPTokenizer
            tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(
                f"{folder} cannot be read: {str(error).splitlines()[0][:200]}", fix="Download or save the model again."
            ) from error
        length = min(int(tokenizer.model_max_length), positions)
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token, length=length)
        (self._destination / f"{name}.json").write_text(backend.to_str(pretty=True), encoding="utf-8")
        return length

    def convert_text_encoder(self, wrapper: type[nn.Module], model_class: Any, part: str, length: int) -> None:
        """Convert a text encoder.

        Args:
            wrapper: the class in `modules.py` that chooses its outputs.
            model_class: its class in transformers.
            part: the name of the component, and of the files.
            length: the number of tokens of a prompt.
        """
        vocabulary = self.read_text_config(part).vocabulary
        inputs = {"input_ids": torch.randint(0, vocabulary, (3, length), generator=self._random)}
        module = wrapper(modules.load(model_class, self._folder / part))
        self._convert(module, inputs, part, self._weights.text_encoder)

    def convert_unet(
        self,
        wrapper: type[nn.Module],
        length: int,
        text_width: int,
        conditions: dict[str, Tensor] | None = None,
        *,
        int8: WeightFormat = "int8",
    ) -> None:
        """Convert the UNet.

        Args:
            wrapper: the class in `modules.py` that names its inputs.
            length: the number of tokens of a prompt.
            text_width: the width of embedded prompts.
            conditions: examples of further inputs, for two samples.
            int8: the format of weights stored in eight bits.
        """
        latents = self._latents
        # The samples of one call are the same latents, see `graph_rewrites.share_guidance`.
        channels = self._pipeline.unet.get("in_channels", latents.channels)
        sample = self.noise(1, channels, 3 * latents.multiple, 5 * latents.multiple).repeat(2, 1, 1, 1)
        inputs = {
            "sample": sample,
            "timestep": torch.tensor([500.0]),
            "encoder_hidden_states": self.noise(2, length, text_width),
            **(conditions or {}),
        }
        if width := self._pipeline.guidance_embedding:
            inputs["timestep_cond"] = self.noise(1, width).repeat(2, 1)
        module = wrapper(modules.load(diffusers.UNet2DConditionModel, self._folder / "unet"))
        weights = int8 if self._weights.unet == "int8" else self._weights.unet
        self._convert(module, inputs, "unet", weights, graph_rewrites.merge_upsampling, _share_guidance)

    def check_deepcache(self) -> None:
        """Check that the converted UNet supports DeepCache, see `engine/deepcache.py`."""
        try:
            deepcache_graphs.outer(core().read_model(self._destination / "unet.xml"))
        except ValueError as error:
            raise ModelError(str(error), fix="Leave out `deepcache_interval=`.") from None

    def convert_decoder(self) -> None:
        """Convert the decoder."""
        inputs = {"latents": self.noise(1, self._latents.channels, 17, 19)}
        model_class = diffusers.AutoencoderTiny if self._is_tiny else diffusers.AutoencoderKL
        module = modules.Decoder(modules.load(model_class, self._autoencoder))
        self._convert(module, inputs, "decoder", self._weights.decoder, graph_rewrites.merge_upsampling)

    def traits(self, family: Family, length: int) -> ModelTraits:
        """Return the properties of the written files."""
        return ModelTraits(
            precision=self._precision,
            latents=self._latents,
            max_length=length,
            tiny_decoder=self._is_tiny,
            family=family,
        )

    def noise(self, *shape: int) -> Tensor:
        """Return a random example input."""
        return torch.randn(shape, generator=self._random)

    def _convert(
        self, module: nn.Module, inputs: dict[str, Tensor], part: str, weights: WeightFormat, *rewrites: Any
    ) -> None:
        path = self._destination / f"{part}.xml"
        convert_module(module, inputs, path, weights, rewrites=rewrites, progress=self._progress)


def _share_guidance(module: nn.Module) -> None:
    graph_rewrites.share_guidance(module.model)
