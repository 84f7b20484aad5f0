"""The torch half of baking: a pipeline's modules as OpenVINO models, each compared with the original."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Final

import diffusers
import nncf
import numpy as np
import openvino
import torch
import transformers
from numpy.typing import NDArray
from openvino import opset15
from torch import Tensor, nn

from lambdiff.bake import graph_rewrites, sources
from lambdiff.bake.sources import ModelTraits, Progress
from lambdiff.engine import deepcache
from lambdiff.engine.core import core
from lambdiff.errors import ModelError

# Largest relative error (Frobenius norm) of a converted part; the reasons are rounding at f32 and storage below.
BOUNDS: Final = {"f32": 1e-3, "f16": 1e-2, "int8": 1e-1}
# How the text encoder, the UNet and the decoder are stored. The decoder is the part whose weights are few and whose
# errors are seen at once: never below f16. With w8a8 the UNet is quantised afterwards, see `quantization.py`.
_STORAGE: Final = {
    "f32": ("f32", "f32", "f32"),
    "f16": ("f16", "f16", "f16"),
    "int8": ("int8", "int8", "f16"),
    "w8a8": ("int8", "f16", "f16"),
}


class _TextEncoder(nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids, return_dict=False)[0]


class _UNet(nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, timestep_cond: Tensor | None = None
    ) -> Tensor:
        return self.model(sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond, return_dict=False)[0]


class _Decoder(nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents, return_dict=False)[0]


def convert(
    folder: Path, made: Path, precision: str, tiny: Path | None, with_deepcache: bool, progress: Progress
) -> ModelTraits:
    """Write `text_encoder`, `unet`, `decoder` and `tokenizer.json` into `made`.

    Args:
        folder: a checked diffusers folder.
        made: where the files go.
        precision: of storage: a key of `_STORAGE`.
        tiny: the folder of an AutoencoderTiny to use in the place of the pipeline's own autoencoder.
        with_deepcache: whether features of an earlier step must be usable, see `deepcache.py`.
        progress: told in a few words what is being done.

    Raises:
        ModelError: a part does not load whole, is of an unsupported kind, or differs from the original when converted.
    """
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    nncf.set_log_level(logging.ERROR)
    random = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    # All that can be seen to be wrong is refused before the minutes of work.
    vae_folder = tiny or folder / "vae"
    latents, is_tiny = sources.latents(vae_folder, folder / "unet")
    text = sources.read_json(
        folder / "text_encoder" / "config.json", "hidden_size", "vocab_size", "max_position_embeddings"
    )
    unet = sources.read_json(folder / "unet" / "config.json", "sample_size")
    _check_unet(unet, text["hidden_size"], latents.channels)
    max_length = _write_tokenizer(folder, made, text["max_position_embeddings"])
    text_storage, unet_storage, decoder_storage = _STORAGE[precision]

    _part(
        _TextEncoder(_load(transformers.CLIPTextModel, folder / "text_encoder")),
        {"input_ids": torch.randint(0, text["vocab_size"], (3, max_length), generator=random)},
        made / "text_encoder.xml",
        text_storage,
        progress,
    )
    inputs = {
        "sample": noise(1, latents.channels, 3 * latents.multiple, 5 * latents.multiple).repeat(2, 1, 1, 1),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": noise(2, max_length, text["hidden_size"]),
    }
    guidance_embedding = unet.get("time_cond_proj_dim")
    if guidance_embedding:
        inputs["timestep_cond"] = noise(1, guidance_embedding).repeat(2, 1)
    _part(
        _UNet(_load(diffusers.UNet2DConditionModel, folder / "unet")),
        inputs,
        made / "unet.xml",
        unet_storage,
        progress,
    )
    if with_deepcache:
        _check_features(made / "unet.xml")
    _part(
        _Decoder(_load(diffusers.AutoencoderTiny if is_tiny else diffusers.AutoencoderKL, vae_folder)),
        {"latents": noise(1, latents.channels, 17, 19)},
        made / "decoder.xml",
        decoder_storage,
        progress,
    )
    return ModelTraits(
        precision=precision,
        latents=latents,
        max_length=max_length,
        sample_size=unet["sample_size"],
        guidance_embedding=guidance_embedding,
        tiny_decoder=is_tiny,
    )


def _load(cls: Any, folder: Path) -> Any:
    """A module in f32 with every one of its parameters read from the folder's safetensors."""
    try:
        loaded = cls.from_pretrained(folder, use_safetensors=True, output_loading_info=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{folder} cannot be read: {str(error).splitlines()[0][:200]}", fix="Download or save the model again."
        ) from error
    model, report = loaded
    if lost := [*report["missing_keys"], *(str(key) for key in report.get("mismatched_keys", []))]:
        raise ModelError(
            f"{folder} lacks {len(lost)} of the model's parameters, {sorted(lost)[0]} for one.",
            fix="Save the pipeline with the installed versions of diffusers and transformers.",
        )
    return model.float().eval().requires_grad_(False)


def _check_unet(config: dict[str, Any], text_width: int, channels: int) -> None:
    # An addition of type "text" pools the prompt's embeddings inside the UNet; other types want inputs of their own.
    for key in ("addition_embed_type", "encoder_hid_dim", "class_embed_type", "num_class_embeds"):
        if config.get(key) is not None and (key, config[key]) != ("addition_embed_type", "text"):
            raise ModelError(f"The UNet has {key}, which is not supported.", fix="Bake it with --engine diffusers.")
    reads = {
        "in_channels": (channels, "the decoder reads latents of another number of channels"),
        "out_channels": (channels, "it is not one for text to image"),
        "cross_attention_dim": (text_width, "the text encoder makes embeddings of another width"),
    }
    for key, (expected, reason) in reads.items():
        if config.get(key) != expected:
            raise ModelError(
                f"The UNet's {key} is {config.get(key)}, not {expected}: {reason}.",
                fix="Bake a text-to-image model whose parts belong together.",
            )


def _check_features(unet: Path) -> None:
    try:
        deepcache.outer(core().read_model(unet))
    except ValueError as error:
        raise ModelError(str(error), fix="Bake without --deepcache.") from None


def _write_tokenizer(folder: Path, made: Path, positions: int) -> int:
    """The tokenizer as one file, padding included; returns the number of tokens of a prompt."""
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{folder / 'tokenizer'} cannot be read: {str(error).splitlines()[0][:200]}",
            fix="Download or save the model again.",
        ) from error
    length = min(int(tokenizer.model_max_length), positions)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token, length=length)
    backend.save(str(made / "tokenizer.json"))
    return length


def _part(module: nn.Module, inputs: dict[str, Tensor], path: Path, precision: str, progress: Progress) -> None:
    """Rewrite and trace a module, store it, and compare what was stored with the original on inputs of another size."""
    progress(f"converting {path.stem}")
    other = {name: _other_size(value) for name, value in inputs.items()}
    expected = module.eval()(*other.values()).numpy()
    graph_rewrites.merge_upsampling(module)
    if isinstance(module, _UNet):
        graph_rewrites.share_guidance(module.model)
    _check(f"The rewritten {path.stem}", module(*other.values()).numpy(), expected, 1e-4, "Report this model.")
    with warnings.catch_warnings():
        # The tracer names each Python branch that it takes for good; the comparison below catches those that matter.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(module, tuple(inputs.values()), check_trace=False)
    model = openvino.convert_model(traced, example_input=tuple(inputs.values()))
    for port, name in zip(model.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
    model.reshape({name: _dynamic(value, name) for name, value in inputs.items()})
    _split_modulated_norms(model)
    if precision == "int8":
        with contextlib.redirect_stdout(sys.stderr):
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    openvino.save_model(model, path, compress_to_fp16=precision != "f32")
    progress(f"comparing {path.stem}")
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    found = core().compile_model(path, "CPU", settings)({k: v.numpy() for k, v in other.items()})[0]
    error = _check(
        f"The converted {path.stem}",
        found,
        expected,
        BOUNDS[precision],
        "Bake with a higher --precision, or report it.",
    )
    progress(f"{path.stem}: relative error {error:.1e}")


def _check(what: str, found: NDArray[np.float32], expected: NDArray[np.float32], bound: float, fix: str) -> float:
    """The relative error, if it is within the bound."""
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    if not error <= bound:
        raise ModelError(f"{what} differs from the original by {error:.1e} (allowed: {bound:.0e}).", fix=fix)
    return error


def _split_modulated_norms(model: openvino.Model) -> None:
    """Write group norms that the timestep scales and shifts (`resnet_time_scale_shift`) as their parts.

    OpenVINO 2026.4 fuses the two and crashes when it then compiles the UNet for fixed shapes in f32.
    """
    for node in model.get_ops():
        if node.get_type_name() != "GroupNormalization":
            continue
        users = {port.get_node() for port in node.output(0).get_target_inputs()}
        if not any(user.get_type_name() == "Multiply" for user in users):
            continue
        picture, scale, shift = node.input_values()
        attributes = node.get_attributes()
        groups = opset15.constant(np.array([0, attributes["num_groups"], -1]))
        normed = opset15.mvn(
            opset15.reshape(picture, groups, special_zero=True),
            opset15.constant(np.array([2])),
            normalize_variance=True,
            eps=attributes["epsilon"],
            eps_mode="inside_sqrt",
        )
        normed = opset15.reshape(normed, opset15.shape_of(picture), special_zero=False)
        channels = opset15.constant(np.array([1, -1, 1, 1]))
        scale, shift = (opset15.reshape(value, channels, special_zero=False) for value in (scale, shift))
        plain = opset15.add(opset15.multiply(normed, scale), shift)
        plain.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(plain.output(0))


def _dynamic(value: Tensor, name: str) -> list[int]:
    """The input's shape with batch and picture size left open."""
    if name == "timestep":
        return [1]
    if value.ndim == 4:
        return [-1, value.shape[1], -1, -1]
    return [-1, *value.shape[1:]]


def _other_size(value: Tensor) -> Tensor:
    """The same data as a larger picture, turned on its side, and with a sample more; but one timestep."""
    if value.ndim == 1:
        return value
    more = torch.cat([value, value[:1]])
    return torch.cat([more, more], dim=2).transpose(2, 3).contiguous() if value.ndim == 4 else more
