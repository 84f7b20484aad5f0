"""Small pipelines of Stable Diffusion XL and of models with its form, with random weights.

`folder()` returns a pipeline saved by diffusers, created once per test session; copy it before you change it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final

from support import tiny_pipeline

WIDTHS: Final = (32, 48)
"""The widths of the two text encoders."""
UNET: Final[dict[str, Any]] = {
    "sample_size": 16,
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "cross_attention_dim": sum(WIDTHS),
    "attention_head_dim": (2, 4, 4),
    "use_linear_projection": True,
    "transformer_layers_per_block": (1, 1, 2),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 40,
}
VEGA: Final[dict[str, Any]] = {
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": (1, (2,), (1,)),
    "reverse_transformer_layers_per_block": ((1, 2), (2, 1), 1),
}
"""Changes of the UNet: as in SSD-1B and Segmind-Vega, layers are missing at several places."""
NOISE: Final[dict[str, Any]] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


@functools.cache
def folder(name: str = "sdxl") -> Path:
    """Return a saved pipeline: `sdxl`, `vega`, or `distilled`, which embeds the guidance scale."""
    changes: dict[str, dict[str, Any]] = {
        "sdxl": {},
        "vega": {"unet": VEGA, "zeros": False},
        "distilled": {"unet": {"time_cond_proj_dim": 16}, "tiny_decoder": True},
    }
    path = tiny_pipeline.scratch() / f"xl-{name}"
    make(**changes[name]).save_pretrained(path, safe_serialization=True)
    return path


def make(
    *,
    unet: dict[str, Any] | None = None,
    zeros: bool = True,
    tiny_decoder: bool = False,
    seed: int = 0,
    **noise: Any,
) -> Any:
    """Return a pipeline whose images depend on the prompt, with 16 tokens and images of 8 pixels a latent.

    Args:
        unet: changes of the UNet's configuration.
        zeros: whether zeros stand for an empty negative prompt.
        tiny_decoder: use an AutoencoderTiny instead of an AutoencoderKL.
        seed: of the weights.
        noise: changes of the scheduler's configuration.
    """
    import diffusers
    import torch
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = diffusers.UNet2DConditionModel(**UNET | (unet or {}))
    with torch.no_grad():
        network.conv_out.weight.mul_(4)
    return diffusers.StableDiffusionXLPipeline(
        vae=_tiny_autoencoder() if tiny_decoder else _autoencoder(),
        text_encoder=_text_encoder(CLIPTextModel, WIDTHS[0], "quick_gelu"),
        text_encoder_2=_text_encoder(CLIPTextModelWithProjection, WIDTHS[1], "gelu"),
        tokenizer=tiny_pipeline.make_tokenizer(),
        tokenizer_2=tiny_pipeline.make_tokenizer(pad_token="!"),
        unet=network,
        scheduler=diffusers.EulerDiscreteScheduler(**NOISE | noise),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )


def _autoencoder() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.13025,
        force_upcast=True,
    )


def _tiny_autoencoder() -> Any:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(16,) * 4,
        decoder_block_out_channels=(16,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )


def _text_encoder(kind: Any, width: int, activation: str) -> Any:
    import torch
    from transformers import CLIPTextConfig

    tokenizer = tiny_pipeline.make_tokenizer()
    model = kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=40,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=16,
            hidden_act=activation,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model
