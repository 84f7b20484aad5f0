"""Find the model that the caller names: a local folder, or a hub model downloaded at one commit."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdiff.bake import catalogue
from lambdiff.bake.catalogue import CatalogueEntry
from lambdiff.bake.parameters import Progress
from lambdiff.errors import ConfigurationError, ModelError, did_you_mean

_DOWNLOADED: Final = ("*.json", "*.txt", "*.safetensors", "*.bin", "LICENSE*")
_NOT_DOWNLOADED: Final = ("safety_checker/*", "feature_extractor/*", "vae_encoder/*", "*.fp16.*", "*.non_ema.*")

_HUB_ID: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_WEIGHTS: Final = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


@dataclass(frozen=True)
class Source:
    """A local folder, and the model's entry if it is in the catalogue."""

    folder: Path
    entry: CatalogueEntry | None = None


def resolve(source: str | Path, revision: str | None, scratch: Path, progress: Progress) -> Source:
    """Return the folder of a pipeline, downloaded if necessary.

    Args:
        source: a folder, a name or hub id in the catalogue, or another hub id.
        revision: the hub's commit; optional for catalogue models.
        scratch: the folder for a copy, if the weights have to be stored in another format.
        progress: called when a download begins.

    Raises:
        ConfigurationError: `source` is neither a folder nor a model, the revision is missing, or the download failed.
        ModelError: `source` is a file.
    """
    if os.path.isdir(source):  # unlike Path.is_dir, it accepts any text
        return Source(Path(source))
    if entry := catalogue.find(str(source)):
        return Source(download(entry, scratch, progress, revision=revision), entry)
    hub_id = str(source)
    if os.path.exists(source):
        raise ModelError(
            f"{hub_id} is a file, and only folders that diffusers saved can be baked.",
            fix="Save the model as a folder: `StableDiffusionPipeline.from_single_file(...).save_pretrained(...)`.",
        )
    if not _HUB_ID.fullmatch(hub_id) or hub_id.endswith(_WEIGHTS):
        nearest = did_you_mean(hub_id, catalogue.CATALOGUE) or "."
        raise ConfigurationError(
            f"{hub_id} is neither a folder nor a model in the catalogue{nearest}",
            fix=f"Choose one of {', '.join(catalogue.CATALOGUE)}, or pass a hub id (owner/model) with `revision=`.",
        )
    if revision is None:
        raise ConfigurationError(
            f"{hub_id} is not in the catalogue, so its revision is required.",
            fix="Pass `revision=` with the commit's hash from the model's page; a branch can change at any time.",
        )
    return Source(_download(hub_id, revision, progress))


def download(entry: CatalogueEntry, scratch: Path, progress: Progress, *, revision: str | None = None) -> Path:
    """Download a model in the catalogue, and store its weights as safetensors if they are pickles.

    Raises:
        ConfigurationError: the download failed.
    """
    folder = _download(entry.hub_id, revision or entry.revision, progress)
    return convert_pickles(folder, scratch / entry.hub_id.replace("/", "--")) if entry.pickled else folder


def _download(hub_id: str, revision: str, progress: Progress) -> Path:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import huggingface_hub

    progress(f"downloading {hub_id} at {revision[:12]}")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id, revision=revision, allow_patterns=list(_DOWNLOADED), ignore_patterns=list(_NOT_DOWNLOADED)
            )
        )
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigurationError(
            f"{hub_id} could not be downloaded: {reason[:200]}",
            fix="Check the network, the name and the revision; HF_ENDPOINT and HF_TOKEN are respected.",
        ) from error


def convert_pickles(folder: Path, destination: Path) -> Path:
    """Copy a pipeline, and convert every torch pickle to safetensors. A pickle that contains code is rejected, not run.

    Returns:
        `destination`.
    """
    import torch
    from safetensors.torch import save_file

    shutil.copytree(folder, destination, ignore=shutil.ignore_patterns("*.bin"))
    for path in folder.rglob("*.bin"):
        converted = (destination / path.relative_to(folder)).with_suffix(".safetensors")
        if converted.stem == "pytorch_model":
            converted = converted.with_stem("model")
        if not converted.exists():
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            contiguous = {key: value.clone().contiguous() for key, value in tensors.items()}
            save_file(contiguous, converted, {"format": "pt"})
    return destination
