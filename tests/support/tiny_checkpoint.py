"""Small pipelines with random weights and CLIP's vocabulary, in the shapes of Stable Diffusion 1, 2 and XL.

Their proportions are those that a checkpoint's tensors reveal: heads as in the published models, 32 groups.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

Family = Literal["sd1", "sd2", "sdxl"]


def pipeline(family: Family, *, seed: int = 0, prediction: str = "epsilon") -> Any:
    """Return a pipeline of diffusers with random weights; its images depend on the prompt."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        EulerDiscreteScheduler,
        PNDMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from lambdiff.bake import clip_tokenizer

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    xl = family == "sdxl"

    def text(kind: Any, width: int, act: str) -> Any:
        config = CLIPTextConfig(
            vocab_size=clip_tokenizer.TOKENS,
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=max(1, width // 64),
            hidden_act=act,
            bos_token_id=49406,
            eos_token_id=49407,
        )
        model = kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)
        return model

    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64) if xl else (32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D")
        if xl
        else ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")
        if xl
        else ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=96 if xl else 64 if family == "sd2" else 32,
        attention_head_dim=8 if family == "sd1" else (1, 1) if xl else (1, 1, 1),
        use_linear_projection=family != "sd1",
        transformer_layers_per_block=(1, 2) if xl else 1,
        **(
            {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 16,
                "projection_class_embeddings_input_dim": 6 * 16 + 64,
            }
            if xl
            else {}
        ),
    )
    with torch.no_grad():
        unet.conv_out.weight.mul_(4)
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        scaling_factor=0.13025 if xl else 0.18215,
        force_upcast=xl,
    )
    noise = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
        "prediction_type": "v_prediction" if prediction == "v" else "epsilon",
    }
    if xl:
        return StableDiffusionXLPipeline(
            vae=vae,
            text_encoder=text(CLIPTextModel, 32, "quick_gelu"),
            text_encoder_2=text(CLIPTextModelWithProjection, 64, "gelu"),
            tokenizer=clip_tokenizer.make(),
            tokenizer_2=clip_tokenizer.make(pad_token="!"),
            unet=unet,
            scheduler=EulerDiscreteScheduler(**noise, timestep_spacing="leading"),
            add_watermarker=False,
        )
    scheduler = (
        DDIMScheduler(**noise, clip_sample=False, set_alpha_to_one=False)
        if prediction == "v"
        else PNDMScheduler(**noise, skip_prk_steps=True)
    )
    second = family == "sd2"
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text(CLIPTextModel, 64 if second else 32, "gelu" if second else "quick_gelu"),
        tokenizer=clip_tokenizer.make(pad_token="!" if second else "<|endoftext|>"),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save(family: Family, folder: Path, **options: Any) -> tuple[Path, Path]:
    """Save a pipeline as diffusers does and as one file, and return (folder, file)."""
    from support import original_layout

    made = pipeline(family, **options)
    made.save_pretrained(folder / family)
    return folder / family, original_layout.save(original_layout.checkpoint(made), folder / f"{family}.safetensors")
