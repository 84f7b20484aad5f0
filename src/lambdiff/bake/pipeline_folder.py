"""A folder saved by diffusers' `save_pretrained`: read and checked before any weights are loaded, or copied."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambdiff.bake.parameters import Progress
from lambdiff.engine.manifest import Latents
from lambdiff.errors import InvalidRequest, ModelError

_PICKLE_SUFFIXES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_COPIED_SUFFIXES: Final = (".safetensors", ".json", ".txt", ".model")
_UNUSED_COMPONENTS: Final = ("safety_checker", "feature_extractor", "image_encoder")
_FIX_DAMAGED: Final = "Download or save the model again."


@dataclass(frozen=True)
class ModelTraits:
    """The properties of a model, from its own files.

    Attributes:
        precision: how its weights are stored, such as `f16`.
        latents: shape and scale of the latents.
        max_length: tokens of a prompt, padding included.
        sample_size: height and width of the latents that the UNet was trained on.
        guidance_embedding: width of the UNet's embedding of the guidance scale, or None.
        tiny_decoder: whether the autoencoder is an AutoencoderTiny.
    """

    precision: str
    latents: Latents
    max_length: int
    sample_size: int
    guidance_embedding: int | None
    tiny_decoder: bool


def check(folder: Path) -> dict[str, Any]:
    """Check that the folder is a pipeline stored without pickles.

    Returns:
        The content of `model_index.json`.

    Raises:
        ModelError: the folder is not a pipeline, or a component has its weights only as pickles.
    """
    index = read_json(folder / "model_index.json")
    for component in required_components(index):
        files = list((folder / component).glob("*"))
        pickles = [path for path in files if path.suffix in _PICKLE_SUFFIXES]
        if pickles and not any(path.suffix == ".safetensors" for path in files):
            raise ModelError(
                f"{pickles[0]} is a pickle, which can run code when it is read.",
                fix="Save the pipeline with safe_serialization=True and bake that.",
            )
    return index


def required_components(index: dict[str, Any]) -> list[str]:
    """Return the components of a `model_index.json` that generation needs."""
    present = [name for name, value in index.items() if isinstance(value, list) and value[0]]
    return [name for name in present if name not in _UNUSED_COMPONENTS]


def check_native_size(folder: Path, native_size: tuple[int, int] | None) -> None:
    """Reject a native size that the model's latents cannot have.

    Raises:
        InvalidRequest: width or height is not a multiple of the model's step in pixels.
    """
    if native_size is None:
        return
    latents, _ = read_latents(folder / "vae", folder / "unet")
    step = latents.factor * latents.multiple
    width, height = native_size
    if width % step or height % step:
        raise InvalidRequest(
            f"This model cannot generate {width}x{height}.", fix=f"Pass multiples of {step} as `native_size=`."
        )


def copy(folder: Path, destination: Path, index: dict[str, Any], progress: Progress) -> ModelTraits:
    """Copy the required components unchanged, for the diffusers engine; the index lists the others as absent.

    Raises:
        ModelError: a configuration is missing or incomplete.
    """
    progress("copying")
    for component in required_components(index):
        (destination / component).mkdir()
        for path in sorted((folder / component).iterdir()):
            if path.suffix in _COPIED_SUFFIXES:
                shutil.copyfile(path, destination / component / path.name)
    absent: dict[str, Any] = {name: [None, None] for name in _UNUSED_COMPONENTS if name in index}
    if "safety_checker" in index:
        absent["requires_safety_checker"] = False
    (destination / "model_index.json").write_text(json.dumps(index | absent, indent=2) + "\n", encoding="utf-8")

    latents, is_tiny = read_latents(destination / "vae", destination / "unet")
    unet = read_json(destination / "unet" / "config.json", "sample_size")
    tokenizer = read_json(destination / "tokenizer" / "tokenizer_config.json", "model_max_length")
    return ModelTraits(
        precision="f32",
        latents=latents,
        max_length=int(tokenizer["model_max_length"]),
        sample_size=unet["sample_size"],
        guidance_embedding=unet.get("time_cond_proj_dim"),
        tiny_decoder=is_tiny,
    )


def read_latents(autoencoder: Path, unet: Path) -> tuple[Latents, bool]:
    """Read shape and scale of the latents.

    Args:
        autoencoder: the folder of the autoencoder that decodes them.
        unet: the folder of the UNet that denoises them.

    Returns:
        The latents, and whether the autoencoder is an AutoencoderTiny.

    Raises:
        ModelError: a configuration is missing, or is not that of a supported autoencoder.
    """
    config = read_json(autoencoder / "config.json", "latent_channels")
    is_tiny = config.get("_class_name") == "AutoencoderTiny"
    blocks = config.get("decoder_block_out_channels" if is_tiny else "block_out_channels")
    if not blocks:
        raise ModelError(f"{autoencoder} is not an autoencoder of a supported class.", fix="Bake another model.")
    # For configurations without the key: the defaults of diffusers' classes.
    scaling_factor = config.get("scaling_factor", 1.0 if is_tiny else 0.18215)
    levels = read_json(unet / "config.json").get("block_out_channels", (320, 640, 1280, 1280))
    latents = Latents(
        channels=config["latent_channels"],
        factor=2 ** (len(blocks) - 1),
        scaling_factor=scaling_factor,
        multiple=2 ** (len(levels) - 1),
    )
    return latents, is_tiny


def read_json(path: Path, *required: str) -> dict[str, Any]:
    """Read a JSON object from a model's folder.

    Raises:
        ModelError: the file is missing, is not a JSON object, or lacks a required key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{path} is missing.", fix="Pass a folder saved by diffusers' save_pretrained.") from None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}.", fix=_FIX_DAMAGED) from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object.", fix=_FIX_DAMAGED)
    if missing := [key for key in required if key not in content]:
        raise ModelError(f"{path} lacks the key {missing[0]}.", fix=_FIX_DAMAGED)
    return content
