"""Write diffusers' models under the names that checkpoints of Stable Diffusion use: the reverse of what bake reads.

The names follow the original code's modules (CompVis, Stability AI and OpenCLIP).
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Tensors = dict[str, Any]
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def checkpoint(pipeline: Any) -> Tensors:
    """Return the tensors of a pipeline of Stable Diffusion 1, 2 or XL under their original names."""
    tensors = prefixed("model.diffusion_model.", unet(pipeline.unet)) | prefixed(
        "first_stage_model.", vae(pipeline.vae)
    )
    if hasattr(pipeline, "text_encoder_2"):
        first, second = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
        tensors |= prefixed(first, clip(pipeline.text_encoder))
        return tensors | prefixed(second, open_clip(pipeline.text_encoder_2))
    if pipeline.text_encoder.config.hidden_act == "gelu":
        return tensors | prefixed("cond_stage_model.model.", open_clip(pipeline.text_encoder, unused_layer=True))
    return tensors | prefixed("cond_stage_model.transformer.", clip(pipeline.text_encoder))


def save(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, dict(metadata or {}))
    return path


def prefixed(prefix: str, tensors: Mapping[str, Any]) -> Tensors:
    """Return the tensors with a prefix before their names."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def unet(model: Any) -> Tensors:
    """Return a UNet's tensors under the names of the original code."""
    layers = model.config.layers_per_block
    names = {}
    for index in range(len(model.down_blocks)):
        for layer in range(layers):
            number = 1 + index * (layers + 1) + layer
            names[f"down_blocks.{index}.resnets.{layer}."] = f"input_blocks.{number}.0."
            names[f"down_blocks.{index}.attentions.{layer}."] = f"input_blocks.{number}.1."
        names[f"down_blocks.{index}.downsamplers.0.conv."] = f"input_blocks.{(index + 1) * (layers + 1)}.0.op."
    for index, block in enumerate(model.up_blocks):
        for layer in range(layers + 1):
            number = index * (layers + 1) + layer
            names[f"up_blocks.{index}.resnets.{layer}."] = f"output_blocks.{number}.0."
            names[f"up_blocks.{index}.attentions.{layer}."] = f"output_blocks.{number}.1."
        place = 2 if hasattr(block, "attentions") else 1
        names[f"up_blocks.{index}.upsamplers.0.conv."] = f"output_blocks.{index * (layers + 1) + layers}.{place}.conv."
    names |= {"mid_block.resnets.0.": "middle_block.0.", "mid_block.attentions.0.": "middle_block.1."}
    names |= {"mid_block.resnets.1.": "middle_block.2."}
    names |= {f"{ours}.": f"{theirs}." for ours, theirs in _UNET_ENDS.items()}
    return {_renamed(name, names, _RESNET if ".resnets." in name else {}): t for name, t in model.state_dict().items()}


def vae(model: Any) -> Tensors:
    """Return an autoencoder's tensors under the names of the original code; its attention consists of convolutions."""
    levels = len(model.config.block_out_channels)
    names = {"encoder.conv_norm_out.": "encoder.norm_out.", "decoder.conv_norm_out.": "decoder.norm_out."}
    for half, blocks in (("encoder", "down"), ("decoder", "up")):
        for level in range(levels):
            theirs = level if half == "encoder" else levels - 1 - level
            for layer in range(model.config.layers_per_block + 1):
                names[f"{half}.{blocks}_blocks.{level}.resnets.{layer}."] = f"{half}.{blocks}.{theirs}.block.{layer}."
            sampler = f"{half}.{blocks}_blocks.{level}.{blocks}samplers.0."
            names[sampler] = f"{half}.{blocks}.{theirs}.{blocks}sample."
        names |= {f"{half}.mid_block.resnets.{i}.": f"{half}.mid.block_{i + 1}." for i in (0, 1)}
        names[f"{half}.mid_block.attentions.0."] = f"{half}.mid.attn_1."
    tensors = {}
    for name, tensor in model.state_dict().items():
        attention = ".attentions." in name
        inner = _VAE_ATTENTION if attention else {"conv_shortcut": "nin_shortcut"}
        reshaped = tensor[:, :, None, None] if attention and tensor.ndim == 2 else tensor
        tensors[_renamed(name, names, inner)] = reshaped
    return tensors


def clip(model: Any) -> Tensors:
    """Return CLIP ViT-L's text encoder under the names of older transformers, with their buffer of positions."""
    import torch

    tensors = {
        name if name.startswith("text_model.") else f"text_model.{name}": t for name, t in model.state_dict().items()
    }
    length = model.config.max_position_embeddings
    return tensors | {"text_model.embeddings.position_ids": torch.arange(length)[None]}


def open_clip(model: Any, *, unused_layer: bool = False) -> Tensors:
    """Return a text encoder under OpenCLIP's names, with the last layer that Stable Diffusion 2 does not use."""
    import torch

    state = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    tensors = {
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "logit_scale": torch.ones(()),
    }
    width = model.config.hidden_size
    projection = state.get("text_projection.weight")
    tensors["text_projection"] = torch.eye(width) if projection is None else projection.T
    layers = model.config.num_hidden_layers
    for layer in range(layers + unused_layer):
        ours, theirs = f"encoder.layers.{min(layer, layers - 1)}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [state[f"{ours}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            tensors[f"{theirs}attn.in_proj_{kind}"] = torch.cat(parts)
            tensors |= {f"{theirs}{new}.{kind}": state[f"{ours}{old}.{kind}"] for old, new in _OPEN_CLIP.items()}
    return tensors


def _renamed(name: str, prefixes: Mapping[str, str], inner: Mapping[str, str]) -> str:
    for ours, theirs in prefixes.items():
        if name.startswith(ours):
            rest = name.removeprefix(ours)
            for old, new in inner.items():
                if rest.startswith(f"{old}."):
                    return theirs + new + rest.removeprefix(old)
            return theirs + rest
    return name


def save_header(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a safetensors file of half-precision zeros that takes no space: its data is a hole.

    Args:
        tensors: tensors without memory, of which only the shapes matter.
        path: the file to write.
        metadata: texts for the header.
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata or {})}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + 2 * tensor.numel()
        entries[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, path.stat().st_size + end)
    return path
