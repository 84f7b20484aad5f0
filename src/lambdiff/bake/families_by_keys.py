"""What a file of weights contains, found by the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from lambdiff.bake.safetensors_file import SafetensorsFile, Shape
from lambdiff.errors import ModelError

CheckpointFamily = Literal["sd1", "sd2", "sdxl"]
"""The families whose one-file checkpoints can be baked."""

NAMES: Final[dict[CheckpointFamily, str]] = {
    "sd1": "Stable Diffusion 1",
    "sd2": "Stable Diffusion 2",
    "sdxl": "Stable Diffusion XL",
}
WIDTHS: Final[dict[int, CheckpointFamily]] = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
"""Width of the text embeddings that a UNet reads -> the family that has it."""

UNET: Final = "model.diffusion_model."
VAE: Final = "first_stage_model."
CLIP: Final = "cond_stage_model.transformer."
OPEN_CLIP: Final = "cond_stage_model.model."
XL_CLIP: Final = "conditioner.embedders.0.transformer."
XL_OPEN_CLIP: Final = "conditioner.embedders.1.model."
_REFINER: Final = "conditioner.embedders.0.model."

_FIRST_CONVOLUTION: Final = f"{UNET}input_blocks.0.0.weight"
_FIX: Final = (
    "Pass a checkpoint of Stable Diffusion 1, 2 or XL that contains UNet, text encoder and VAE, or a folder that "
    "diffusers saved."
)
_LORA: Final = re.compile(
    r"\.(lora_(down|up|mid|A|B)(\.default)?\.weight|lora\.(down|up)\.weight|lora_linear_layer\.(down|up)\.weight"
    r"|hada_w\d_\w|lokr_w\d(_\w)?|oft_blocks|oft_diag|dora_scale|diff|diff_b)$|_lora\.(down|up)\.weight$"
)
# (the beginning or a part of a name, what the file is); the first that occurs names the file.
_OTHERS: Final[tuple[tuple[str, str], ...]] = (
    (r"^control_model\.|^controlnet_|^input_hint_block|^lora_controlnet|^control_all_x_embedder", "a ControlNet"),
    (r"^(image_proj|ip_adapter)\.", "an IP-Adapter"),
    (r"^(adapter\.)?body\.\d+\.(block|resnets)", "a T2I-Adapter"),
    (r"motion_modules\.", "an AnimateDiff motion module"),
    (r"joint_blocks\.\d", "a checkpoint of Stable Diffusion 3"),
    (r"single_stream_modulation\.", "a checkpoint of FLUX.2"),
    (r"distilled_guidance_layer\.", "a checkpoint of Chroma"),
    (r"double_blocks\.\d+\.img_attn|single_transformer_blocks\.\d", "a checkpoint of FLUX"),
    (r"double_layers\.\d", "a checkpoint of AuraFlow"),
    (r"^(edm_mean|edm_std)$", "a checkpoint of Playground 2.5, whose noise process (EDM) is not supported"),
    (r"^edm_vpred\.", "a checkpoint of CosXL, whose noise process (EDM) is not supported"),
    (r"clip_txt_mapper|channelwise\.0\.weight", "a checkpoint of Stable Cascade"),
    (r"cap_embedder\.|layers\.\d+\.adaLN_modulation", "a checkpoint of Lumina 2 or Z-Image"),
    (r"cross_attn\.kv_linear\.|caption_projection\.", "a checkpoint of Sana or PixArt"),
    (r"txt_in\.individual_token_refiner|patchify_proj|head\.modulation|attn\.qkv_x", "a checkpoint of a video model"),
)
_OTHER_INPUTS: Final = {
    5: "a depth-to-image checkpoint",
    7: "an upscaler's checkpoint",
    8: "an InstructPix2Pix checkpoint",
}


def recognize(file: SafetensorsFile) -> CheckpointFamily:
    """Return the family of a checkpoint.

    Raises:
        ModelError: it is not a complete checkpoint for text to image or inpainting of a supported family; the message
            says what it is.
    """
    names = file.shapes
    if what := _other(names):
        raise ModelError(f"{file.path} is {what[0]}.", fix=what[1])
    family = _family(names)
    if family is None:
        _refuse_part(file)
        raise ModelError(f"{file.path} is not a checkpoint of a known family.", fix=_FIX)
    missing = [
        what
        for what, prefix in (("UNet", UNET), ("VAE", VAE), ("second text encoder", XL_OPEN_CLIP))
        if not _any(names, prefix) and (prefix != XL_OPEN_CLIP or family == "sdxl")
    ]
    if missing:
        raise ModelError(
            f"{file.path} is a checkpoint of {NAMES[family]} without its {missing[0]}.",
            fix="Download the complete version of the checkpoint, or pass a folder that diffusers saved.",
        )
    channels = names.get(_FIRST_CONVOLUTION, (0, 4))[1]
    if channels in _OTHER_INPUTS:
        raise ModelError(
            f"{file.path} is {_OTHER_INPUTS[channels]} of {NAMES[family]}, which needs other inputs.",
            fix="Pass a checkpoint for text to image or inpainting.",
        )
    return family


def is_lora(names: Mapping[str, Shape]) -> bool:
    """Whether the names are those of a LoRA or of one of its relatives."""
    return any(map(_LORA.search, names))


def is_embedding(names: Mapping[str, Shape]) -> bool:
    """Whether the names are those of a textual inversion embedding."""
    if {"emb_params"} <= names.keys() or ({"clip_l", "clip_g"} & names.keys() and len(names) <= 2):
        return True
    return 0 < len(names) <= 2 and all(len(shape) in (1, 2) and "." not in name for name, shape in names.items())


def _other(names: Mapping[str, Shape]) -> tuple[str, str] | None:
    """Return what the file is and what to do with it, if it is certainly no checkpoint of a supported family."""
    if is_lora(names):
        return "a LoRA, not a checkpoint", "Pass the checkpoint that it belongs to, and the LoRA with `loras=`."
    if is_embedding(names):
        return "a textual inversion embedding, not a checkpoint", "Pass it with `embeddings=`, beside a checkpoint."
    for pattern, what in _OTHERS:
        if any(map(re.compile(pattern).search, names)):
            return f"{what}, which cannot be baked", _FIX
    return None


def _family(names: Mapping[str, Shape]) -> CheckpointFamily | None:
    if _any(names, XL_CLIP) or _any(names, XL_OPEN_CLIP):
        return "sdxl"
    if _any(names, CLIP):
        return "sd1"
    if _any(names, OPEN_CLIP):
        return "sd2"
    return None


def _refuse_part(file: SafetensorsFile) -> None:
    """Refuse a file that contains only a part of a model, or all of it under other names.

    Raises:
        ModelError: it is such a file.
    """
    names = file.shapes
    if _any(names, _REFINER):
        what = "the refiner of Stable Diffusion XL, which only improves images of another model"
    elif _any(names, "model_ema.") and not _any(names, UNET):
        what = "a training checkpoint with only the averaged (EMA) weights"
    elif _any(names, UNET):
        what = "a UNet without a text encoder" + ("" if _any(names, VAE) else " and a VAE")
    elif _any(names, "down_blocks.") or _any(names, "unet."):
        what = "a UNet under diffusers' names"
    elif _any(names, "input_blocks."):
        what = "a UNet alone"
    elif _any(names, VAE) or _any(names, "decoder.") or _any(names, "vae."):
        what = "a VAE alone"
    elif any(_any(names, prefix) for prefix in ("text_model.", "encoder.layers.", "transformer.resblocks.")):
        what = "a text encoder alone"
    else:
        return
    raise ModelError(f"{file.path} contains {what}; a model needs all its parts.", fix=_FIX)


def _any(names: Mapping[str, Shape], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)
