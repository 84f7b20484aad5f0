"""Where `bake` gets a model from: the hub or a folder that diffusers saved, checked before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambdiff.bake import catalogue
from lambdiff.engine.manifest import Latents
from lambdiff.errors import ConfigurationError, ModelError

Progress = Callable[[str], None]

_FETCHED: Final = ("*.json", "*.txt", "*.safetensors", "*.bin", "LICENSE*")
_NOT_FETCHED: Final = ("safety_checker/*", "feature_extractor/*", "vae_encoder/*", "*.fp16.*", "*.non_ema.*")
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OPENVINO_PIPELINES: Final = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")
_NOT_DRAWN_WITH: Final = ("safety_checker", "feature_extractor", "image_encoder")


@dataclass(frozen=True)
class ModelTraits:
    """What the modules of a model say about it."""

    precision: str
    latents: Latents
    max_length: int
    sample_size: int
    guidance_embedding: int | None
    tiny_decoder: bool


def find(source: str, entry: catalogue.Model | None, revision: str | None, work: Path, progress: Progress) -> Path:
    """The folder of a pipeline: the one named, or one downloaded at one commit.

    Raises:
        ConfigurationError: neither a folder nor a hub id, no revision, or the hub cannot be reached.
    """
    if Path(source).is_dir():
        return Path(source)
    hub_id = entry.hub_id if entry else source
    revision = revision or (entry.revision if entry else None)
    if "/" not in hub_id or hub_id.startswith((".", "/", "~")):
        raise ConfigurationError(
            f"{source} is neither a folder nor a model of the catalogue.",
            fix=f"Known names: {', '.join(catalogue.CATALOGUE)}; or give a hub id such as owner/model with --revision.",
        )
    if revision is None:
        raise ConfigurationError(
            f"{hub_id} is not in the catalogue, so its revision must be given.",
            fix="Pass --revision with the commit's hash from the model's page; a branch may change under you.",
        )
    progress(f"downloading {hub_id} at {revision[:12]}")
    folder = _download(hub_id, revision)
    return without_pickles(folder, work / hub_id.replace("/", "--")) if entry and entry.pickled else folder


def _download(hub_id: str, revision: str) -> Path:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id, revision=revision, allow_patterns=list(_FETCHED), ignore_patterns=list(_NOT_FETCHED)
            )
        )
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigurationError(
            f"{hub_id} could not be downloaded: {reason[:200]}",
            fix="Check the network, the name and the revision; HF_ENDPOINT and HF_TOKEN are respected.",
        ) from error


def without_pickles(folder: Path, target: Path) -> Path:
    """A copy of a pipeline in which every torch pickle is a safetensors file; code in a pickle is refused, not run."""
    import torch
    from safetensors.torch import save_file

    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.bin"))
    for path in folder.rglob("*.bin"):
        goal = (target / path.relative_to(folder)).with_suffix(".safetensors")
        if goal.stem == "pytorch_model":
            goal = goal.with_stem("model")
        if not goal.exists():
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            save_file({key: value.clone().contiguous() for key, value in tensors.items()}, goal, {"format": "pt"})
    return target


def check(folder: Path, engine: str) -> dict[str, Any]:
    """Refuse what is no pipeline, is of another shape, or is stored as pickles; returns the `model_index.json`.

    Raises:
        ModelError: with the reason.
    """
    index = read_json(folder / "model_index.json")
    kind = str(index.get("_class_name"))
    if engine == "openvino" and kind not in _OPENVINO_PIPELINES:
        raise ModelError(
            f"{folder} is a {kind}; the OpenVINO engine draws with {' or '.join(_OPENVINO_PIPELINES)}.",
            fix="Bake it with --engine diffusers.",
        )
    for component in components(index):
        weights = [path for path in (folder / component).glob("*") if path.suffix in (*_PICKLES, ".safetensors")]
        if weights and not any(path.suffix == ".safetensors" for path in weights):
            raise ModelError(
                f"{weights[0]} is a pickle, which can run code when it is read.",
                fix="Save the pipeline with safe_serialization=True and bake that.",
            )
    return index


def components(index: dict[str, Any]) -> list[str]:
    """The components of a `model_index.json` that drawing needs."""
    stated = [name for name, value in index.items() if isinstance(value, list) and value[0]]
    return [name for name in stated if name not in _NOT_DRAWN_WITH]


def copy(folder: Path, made: Path, index: dict[str, Any]) -> None:
    """Copy what drawing needs of a pipeline, as it is; components that are left out are named as none."""
    for component in components(index):
        (made / component).mkdir()
        for path in sorted((folder / component).iterdir()):
            if path.suffix in {".safetensors", ".json", ".txt", ".model"}:
                shutil.copyfile(path, made / component / path.name)
    without: dict[str, Any] = {name: [None, None] for name in _NOT_DRAWN_WITH if name in index}
    if "safety_checker" in index:
        without["requires_safety_checker"] = False
    (made / "model_index.json").write_text(json.dumps(index | without, indent=2) + "\n", encoding="utf-8")


def latents(folder: Path, unet: Path) -> tuple[Latents, bool]:
    """Shape and scale of the latents of the autoencoder in `folder` with a UNet, and whether it is a tiny one."""
    vae = read_json(folder / "config.json", "latent_channels")
    tiny = vae.get("_class_name") == "AutoencoderTiny"
    blocks = vae.get("decoder_block_out_channels" if tiny else "block_out_channels")
    if not blocks:
        raise ModelError(f"{folder} is no autoencoder of a supported kind.", fix="Bake another model.")
    # Defaults of diffusers' classes, for configurations that leave them out.
    scaling_factor = vae.get("scaling_factor", 1.0 if tiny else 0.18215)
    levels = read_json(unet / "config.json").get("block_out_channels", (320, 640, 1280, 1280))
    found = Latents(
        channels=vae["latent_channels"],
        factor=2 ** (len(blocks) - 1),
        scaling_factor=scaling_factor,
        multiple=2 ** (len(levels) - 1),
    )
    return found, tiny


def read_json(path: Path, *needed: str) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        ModelError: the file is missing or holds something else, or a needed key is not in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{path} is missing.", fix="Name a folder that diffusers' save_pretrained made.") from None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}.", fix="Download or save the model again.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object.", fix="Download or save the model again.")
    if lost := [key for key in needed if key not in content]:
        raise ModelError(f"{path} does not say {lost[0]}.", fix="Download or save the model again.")
    return content
