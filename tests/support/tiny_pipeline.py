"""Small Stable Diffusion pipelines with random weights, created once per test session.

`folder()` returns a pipeline saved by diffusers, and `baked()` a model folder. Tests share both: copy one before you
change it.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

WORDS = ("a", "cat", "dog", "in", "the", "top", "hat", "with", "on", "red", "blue", "background", "two")
_UNET = {
    "sample_size": 16,
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
    "addition_embed_type_num_heads": 4,
}
_UNET_KEYS = (*_UNET, "in_channels", "time_cond_proj_dim", "resnet_time_scale_shift", "addition_embed_type")
LIKE_STABLE_DIFFUSION: dict[str, Any] = {
    "name": "like-stable-diffusion",
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
"""Arguments for `folder` and `baked`: a UNet that begins and ends with attention, like Stable Diffusion's."""
START, END = "<|startoftext|>", "<|endoftext|>"


@functools.cache
def scratch() -> Path:
    """Return a folder for models, which is removed at the end of the session."""
    path = tempfile.mkdtemp(prefix="lambdiff-tests-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)


def folder(*, name: str = "tiny", tiny_decoder: bool = False, **changes: Any) -> Path:
    """Return a saved pipeline. Each set of changes needs its own name."""
    path = scratch() / name
    return path if path.exists() else save(path, tiny_decoder=tiny_decoder, **changes)


def baked(engine: str = "openvino", *, precision: str = "auto", name: str = "tiny", **changes: Any) -> Path:
    """Return a model folder baked from `folder(name=name, **changes)`; the first call takes about ten seconds."""
    from lambdiff.bake.bake import bake

    out = scratch() / f"{name}-{engine}-{precision}"
    if not out.exists():
        bake(folder(name=name, **changes), out, engine=engine, precision=precision, name=name, license="MIT")
    return out


def save(folder: Path, *, seed: int = 0, tiny_decoder: bool = False, **changes: Any) -> Path:
    """Save a pipeline with about 0.3 million parameters: 4 latent channels, factor 4, text width 32, 16 tokens.

    Args:
        folder: where to write it; created if necessary.
        seed: seed of the weights.
        tiny_decoder: use an AutoencoderTiny instead of an AutoencoderKL.
        changes: changes to the configuration of the UNet (`_UNET_KEYS`) and of the scheduler.
    """
    import torch
    from diffusers import AutoencoderKL, AutoencoderTiny, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    # In networks this small, additional threads only wait for each other.
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**_UNET | {name: changes.pop(name) for name in _UNET_KEYS if name in changes})
    if tiny_decoder:
        vae = AutoencoderTiny(
            encoder_block_out_channels=(16, 16, 16),
            decoder_block_out_channels=(16, 16, 16),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        )
    else:
        vae = AutoencoderKL(
            block_out_channels=(16, 32, 32),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=8,
        )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            projection_dim=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=16,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    # The output of untrained layers hardly depends on prompt and latents; larger weights increase the dependence.
    with torch.no_grad():
        for parameter in text_encoder.parameters():
            parameter.mul_(3)
        unet.conv_out.weight.mul_(4)
    scheduler = PNDMScheduler(
        **{"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
        | {"skip_prk_steps": True}
        | changes
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def make_tokenizer(*, pad_token: str = END) -> Any:
    """Return CLIP's tokenizer with a vocabulary of single letters and the words in `WORDS`."""
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    vocab: dict[str, int] = {}
    merges: list[tuple[str, str]] = []
    for token in (*letters, *(f"{letter}</w>" for letter in letters)):
        vocab.setdefault(token, len(vocab))
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
            vocab.setdefault(parts[0], len(vocab))
    for token in (START, END):
        vocab.setdefault(token, len(vocab))
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=16, pad_token=pad_token)


def as_pickles(folder: Path) -> None:
    """Turn the weights of a saved pipeline into torch pickles, the format of older models."""
    import torch
    from safetensors.torch import load_file

    for path in folder.rglob("*.safetensors"):
        stem = "pytorch_model" if path.stem == "model" else path.stem
        torch.save(load_file(path), path.with_name(f"{stem}.bin"))
        path.unlink()


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes a key."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
