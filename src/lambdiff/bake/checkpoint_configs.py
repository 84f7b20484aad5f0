"""The configuration of each part of a checkpoint, from the shapes of its tensors.

A checkpoint has no configuration files. The sizes follow from its tensors; what does not (activations, the number of
attention heads, scaling factors, the scheduler) is a fact about the family, as in the folders that its authors
published for diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lambdiff.bake.clip_tokenizer import TOKENS
from lambdiff.bake.families_by_keys import CheckpointFamily
from lambdiff.bake.parameters import Prediction
from lambdiff.bake.safetensors_file import Shape

_HEAD: Final = 64
"""Channels of an attention head, in all models but the UNet of Stable Diffusion 1, which has 8 heads everywhere."""

_NOISE: Final[dict[str, Any]] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
_LIKE_PNDM: Final = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False}
_LIKE_DDIM: Final = {"_class_name": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False}
_LIKE_EULER: Final = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}


@dataclass(frozen=True)
class _Block:
    """One level of the UNet: its channels, its residual blocks, and the depth of the transformer after each of them."""

    channels: int
    depths: tuple[int, ...]


def unet(shapes: Mapping[str, Shape], family: CheckpointFamily, sample_size: int) -> dict[str, Any]:
    """Return the configuration of diffusers' UNet2DConditionModel.

    Args:
        shapes: the UNet's tensors, without the prefix.
        family: the checkpoint's family.
        sample_size: the height and width of the latents that it was trained on.
    """
    blocks = _unet_blocks(shapes)
    channels = [block.channels for block in blocks]
    depths = [max(block.depths) or 1 for block in blocks]
    cross = ["CrossAttnDownBlock2D" if any(block.depths) else "DownBlock2D" for block in blocks]
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": sample_size,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": len(blocks[0].depths),
        "down_block_types": cross,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(cross)],
        "cross_attention_dim": _first(shapes, r"attn2\.to_k\.weight$")[1],
        "attention_head_dim": 8 if family == "sd1" else [_heads(width) for width in channels],
        "use_linear_projection": len(_first(shapes, r"\.proj_in\.weight$")) == 2,
        "transformer_layers_per_block": depths,
    }
    if "label_emb.0.0.weight" in shapes:
        config |= {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}
        config["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    return config


def _unet_blocks(shapes: Mapping[str, Shape]) -> list[_Block]:
    blocks: list[_Block] = []
    channels, depths = 0, list[int]()
    for index in range(1, 1 + _count(shapes, r"^input_blocks\.(\d+)\.")):
        if f"input_blocks.{index}.0.op.weight" in shapes:
            blocks.append(_Block(channels, tuple(depths)))
            depths = []
        elif convolution := shapes.get(f"input_blocks.{index}.0.in_layers.2.weight"):
            channels = convolution[0]
            depths.append(_count(shapes, rf"^input_blocks\.{index}\.1\.transformer_blocks\.(\d+)\."))
    return [*blocks, _Block(channels, tuple(depths))]


def vae(shapes: Mapping[str, Shape], family: CheckpointFamily) -> dict[str, Any]:
    """Return the configuration of diffusers' AutoencoderKL, for tensors without the prefix."""
    levels = _count(shapes, r"^encoder\.down\.(\d+)\.")
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)],
        "layers_per_block": _count(shapes, r"^encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "scaling_factor": 0.13025 if family == "sdxl" else 0.18215,
        "force_upcast": family == "sdxl",
    }


def clip(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Return the configuration of CLIP ViT-L's text encoder, for tensors that begin with `text_model.`."""
    positions, width = shapes["text_model.embeddings.position_embedding.weight"]
    return {
        **_text(width, positions, shapes["text_model.embeddings.token_embedding.weight"][0]),
        "num_hidden_layers": _count(shapes, r"^text_model\.encoder\.layers\.(\d+)\."),
        "intermediate_size": shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        "hidden_act": "quick_gelu",
    }


def open_clip(shapes: Mapping[str, Shape], *, layers: int) -> dict[str, Any]:
    """Return the configuration of an OpenCLIP text encoder, for tensors without the prefix."""
    positions, width = shapes["positional_embedding"]
    return {
        **_text(width, positions, shapes["token_embedding.weight"][0]),
        "num_hidden_layers": layers,
        "intermediate_size": shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
        "hidden_act": "gelu",
        "projection_dim": shapes["text_projection"][1] if "text_projection" in shapes else width,
    }


def open_clip_layers(shapes: Mapping[str, Shape]) -> int:
    """Return the number of transformer layers of an OpenCLIP text encoder."""
    return _count(shapes, r"^transformer\.resblocks\.(\d+)\.")


def scheduler(family: CheckpointFamily, prediction: Prediction, *, zero_snr: bool) -> dict[str, Any]:
    """Return the configuration of the family's own scheduler."""
    config = _NOISE | {"prediction_type": "v_prediction" if prediction == "v" else "epsilon"}
    if zero_snr:
        return config | _LIKE_EULER | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    match family:
        case "sdxl":
            return config | _LIKE_EULER
        case "sd2" if prediction == "v":
            return config | _LIKE_DDIM
        case _:
            return config | _LIKE_PNDM


def assumes_heads(config: Mapping[str, Any], *texts: Mapping[str, Any]) -> bool:
    """Whether the number of attention heads is an assumption, because a width is not that of a published model."""
    per_level = isinstance(config["attention_head_dim"], list)
    widths = [*(config["block_out_channels"] if per_level else ()), *(text["hidden_size"] for text in texts)]
    return any(width % _HEAD for width in widths)


def _text(width: int, positions: int, tokens: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "projection_dim": width,
        "num_attention_heads": _heads(width),
        "max_position_embeddings": positions,
        "vocab_size": tokens,
        "bos_token_id": TOKENS - 2,
        "eos_token_id": TOKENS - 1,
        "pad_token_id": 1,
    }


def _heads(width: int) -> int:
    return max(1, width // _HEAD)


def _first(shapes: Mapping[str, Shape], pattern: str) -> Shape:
    return next(shape for name, shape in shapes.items() if re.search(pattern, name))


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """Return one more than the largest number that the pattern finds in the names, or 0."""
    numbers = [int(found[1]) for name in shapes if (found := re.search(pattern, name))]
    return max(numbers, default=-1) + 1
