"""LoRAs and embeddings with random weights for a pipeline, under the names of kohya's scripts, diffusers and peft."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

Names = Literal["kohya", "kohya-sgm", "diffusers", "peft"]
Tensors = dict[str, Any]
LINEAR = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "net.0.proj",
    "net.2",
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "fc1",
    "fc2",
)
WITH_CONVOLUTIONS = (*LINEAR, "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut", "time_emb_proj")


def make(
    pipeline: Any,
    names: Names = "kohya",
    *,
    layers: tuple[str, ...] = LINEAR,
    rank: Callable[[int], int] = lambda _: 4,
    alpha: float | None = 2.0,
    text_encoders: bool = True,
    strength: float = 0.3,
    seed: int = 1,
) -> Tensors:
    """Return the tensors of a LoRA.

    Args:
        pipeline: a pipeline of Stable Diffusion 1, 2 or XL.
        names: whose conventions the names follow. `kohya-sgm` has the names of SDXL's original UNet.
        layers: the ends of the names of the changed layers.
        rank: the rank of the layer with this number.
        alpha: the scale's numerator, stored only under kohya's names; None leaves it out.
        text_encoders: whether these are changed too.
        strength: the size of the matrices.
        seed: of the random numbers.
    """
    import torch

    random = torch.Generator().manual_seed(seed)
    tensors: Tensors = {}
    for number, (part, name, weight) in enumerate(_targets(pipeline, layers, text_encoders=text_encoders)):
        size = rank(number)
        down = torch.randn(size, *weight.shape[1:], generator=random) * strength / weight[0].numel() ** 0.5
        up = torch.randn(weight.shape[0], size, *(1 for _ in weight.shape[2:]), generator=random) * strength
        if names.startswith("kohya"):
            prefix = _kohya(pipeline, part, name, sgm=names == "kohya-sgm")
            tensors |= {f"{prefix}.lora_down.weight": down, f"{prefix}.lora_up.weight": up}
            if alpha is not None:
                tensors[f"{prefix}.alpha"] = torch.tensor(alpha)
        elif names == "diffusers":
            kind = "lora" if part == "unet" else "lora_linear_layer"
            tensors |= {f"{part}.{name}.{kind}.down.weight": down, f"{part}.{name}.{kind}.up.weight": up}
        else:
            tensors |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
    return tensors


def save(tensors: Tensors, path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Write a safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def _targets(pipeline: Any, layers: tuple[str, ...], *, text_encoders: bool) -> Iterator[tuple[str, str, Any]]:
    parts = ["unet", *(("text_encoder", "text_encoder_2") if text_encoders else ())]
    for part in parts:
        model = getattr(pipeline, part, None)
        for name, module in model.named_modules() if model is not None else ():
            weight = getattr(module, "weight", None)
            if name.endswith(layers) and weight is not None and weight.ndim in (2, 4):
                full = name if part == "unet" or name.startswith("text_model.") else f"text_model.{name}"
                yield part, full, weight


def _kohya(pipeline: Any, part: str, name: str, *, sgm: bool) -> str:
    if part == "unet":
        if sgm:
            from support import original_layout

            original = original_layout.unet(pipeline.unet)
            theirs = dict(zip(pipeline.unet.state_dict(), original, strict=True))
            name = theirs[f"{name}.weight"].removesuffix(".weight")
        return "lora_unet_" + name.replace(".", "_")
    is_xl = hasattr(pipeline, "text_encoder_2")
    prefix = {"text_encoder": "lora_te1_" if is_xl else "lora_te_", "text_encoder_2": "lora_te2_"}[part]
    return prefix + name.replace(".", "_")
