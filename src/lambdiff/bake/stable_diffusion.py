"""Stable Diffusion 1 and 2, and latent consistency models: CLIP's text encoder, one UNet, one autoencoder."""

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
from lambdiff.bake.convert import WeightFormat, convert_module
from lambdiff.bake.parameters import Progress, StoragePrecision
from lambdiff.bake.pipeline_folder import ModelTraits, PipelineConfig
from lambdiff.bake.text_models import TextConfig
from lambdiff.engine import deepcache as deepcache_graphs
from lambdiff.engine.core import core
from lambdiff.engine.manifest import Latents
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


class _Configuration(NamedTuple):
    """The content of the configuration files, checked before the slow conversion."""

    text: TextConfig
    unet: dict[str, Any]
    latents: Latents
    tiny_decoder: bool


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
    nncf.set_log_level(logging.ERROR)
    autoencoder = tiny_decoder or folder / "vae"
    configuration = _read_configuration(folder, autoencoder, pipeline.unet)
    tokenizer_class = str((pipeline.index.get("tokenizer") or [None, None])[1])
    max_length = _write_tokenizer(folder, destination, configuration.text.max_length, tokenizer_class)
    weights = _WEIGHTS[precision]
    examples = _ExampleInputs(configuration, max_length)

    _convert_text_encoder(folder, destination, examples.text_encoder(), weights.text_encoder, progress)
    _convert_unet(folder, destination, examples.unet(), weights.unet, progress)
    if deepcache:
        _check_deepcache(destination / "unet.xml")
    is_tiny = configuration.tiny_decoder
    _convert_decoder(autoencoder, destination, examples.decoder(), weights.decoder, progress, is_tiny=is_tiny)
    return ModelTraits(
        precision=precision,
        latents=configuration.latents,
        max_length=max_length,
        tiny_decoder=configuration.tiny_decoder,
    )


def _convert_text_encoder(
    folder: Path, destination: Path, inputs: dict[str, Tensor], weights: WeightFormat, progress: Progress
) -> None:
    module = modules.TextEncoder(modules.load(transformers.CLIPTextModel, folder / "text_encoder"))
    convert_module(module, inputs, destination / "text_encoder.xml", weights, rewrites=(), progress=progress)


def _convert_unet(
    folder: Path, destination: Path, inputs: dict[str, Tensor], weights: WeightFormat, progress: Progress
) -> None:
    module = modules.UNet(modules.load(diffusers.UNet2DConditionModel, folder / "unet"))
    rewrites = (graph_rewrites.merge_upsampling, _share_guidance)
    convert_module(module, inputs, destination / "unet.xml", weights, rewrites=rewrites, progress=progress)


def _convert_decoder(
    autoencoder: Path,
    destination: Path,
    inputs: dict[str, Tensor],
    weights: WeightFormat,
    progress: Progress,
    *,
    is_tiny: bool,
) -> None:
    autoencoder_class = diffusers.AutoencoderTiny if is_tiny else diffusers.AutoencoderKL
    module = modules.Decoder(modules.load(autoencoder_class, autoencoder))
    rewrites = (graph_rewrites.merge_upsampling,)
    convert_module(module, inputs, destination / "decoder.xml", weights, rewrites=rewrites, progress=progress)


class _ExampleInputs:
    """Random inputs for tracing the modules, the same in every run."""

    def __init__(self, configuration: _Configuration, max_length: int) -> None:
        self._configuration = configuration
        self._max_length = max_length
        self._random = torch.Generator().manual_seed(0)

    def text_encoder(self) -> dict[str, Tensor]:
        size = (3, self._max_length)
        return {"input_ids": torch.randint(0, self._configuration.text.vocabulary, size, generator=self._random)}

    def unet(self) -> dict[str, Tensor]:
        latents = self._configuration.latents
        inputs = {
            # The samples of one call are the same latents, see `graph_rewrites.share_guidance`.
            "sample": self._noise(1, latents.channels, 3 * latents.multiple, 5 * latents.multiple).repeat(2, 1, 1, 1),
            "timestep": torch.tensor([500.0]),
            "encoder_hidden_states": self._noise(2, self._max_length, self._configuration.text.width),
        }
        if width := self._configuration.unet.get("time_cond_proj_dim"):
            inputs["timestep_cond"] = self._noise(1, width).repeat(2, 1)
        return inputs

    def decoder(self) -> dict[str, Tensor]:
        return {"latents": self._noise(1, self._configuration.latents.channels, 17, 19)}

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._random)


def _read_configuration(folder: Path, autoencoder: Path, unet: dict[str, Any]) -> _Configuration:
    latents, is_tiny = pipeline_folder.read_latents(autoencoder, folder / "unet")
    return _Configuration(text_models.read_config(folder / "text_encoder"), unet, latents, is_tiny)


def _share_guidance(module: nn.Module) -> None:
    graph_rewrites.share_guidance(module.model)


def _check_deepcache(unet: Path) -> None:
    try:
        deepcache_graphs.outer(core().read_model(unet))
    except ValueError as error:
        raise ModelError(str(error), fix="Leave out `deepcache_interval=`.") from None


def _write_tokenizer(folder: Path, destination: Path, positions: int, class_name: str) -> int:
    """Write the tokenizer as one file, padding included, and return the number of tokens of a prompt."""
    try:
        # The tokenizer of a model with embeddings must be read as it is; see `embedding.py`.
        as_it_is = class_name == embedding.TOKENIZER_CLASS
        tokenizer_class = transformers.PreTrainedTokenizerFast if as_it_is else transformers.CLIPTokenizer
        tokenizer = tokenizer_class.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{folder / 'tokenizer'} cannot be read: {str(error).splitlines()[0][:200]}",
            fix="Download or save the model again.",
        ) from error
    length = min(int(tokenizer.model_max_length), positions)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token, length=length)
    backend.save(str(destination / "tokenizer.json"))
    return length
