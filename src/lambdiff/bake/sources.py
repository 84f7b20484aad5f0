"""Find the model that the caller names: a local folder, or a hub model downloaded at one commit."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdiff.bake import catalogue, checkpoint, few_steps, output_folder, pipeline_folder, weight_files
from lambdiff.bake.catalogue import CatalogueEntry
from lambdiff.bake.checkpoint import Checkpoint
from lambdiff.bake.few_steps import FewSteps
from lambdiff.bake.parameters import LoraFile, Prediction, Progress
from lambdiff.engine.manifest import SourceFile
from lambdiff.errors import ConfigurationError, InvalidRequest, OutputError, did_you_mean

_HUB_ID: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_INDEX: Final = "model_index.json"
_WEIGHTS: Final = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


@dataclass(frozen=True)
class HubModel:
    """A model on the hub, of which only the configuration files have been downloaded.

    Attributes:
        hub_id: owner/name.
        revision: the commit.
        weights: the paths of the weights.
        size: their size in bytes.
    """

    hub_id: str
    revision: str
    weights: list[str]
    size: int


@dataclass(frozen=True)
class Source:
    """Where the model is.

    Attributes:
        folder: a folder as diffusers saves it; of a checkpoint, only the configuration.
        entry: the model's entry, if it is in the catalogue.
        hub: where the weights come from, if they are not in the folder yet.
        checkpoint: the one file that the weights are in, if it is not a folder.
    """

    folder: Path
    entry: CatalogueEntry | None = None
    hub: HubModel | None = None
    checkpoint: Checkpoint | None = None

    @property
    def path(self) -> Path:
        """The checkpoint or the folder, for messages."""
        return self.checkpoint.file.path if self.checkpoint else self.folder

    @property
    def name(self) -> str:
        """The name of the catalogue's entry, the checkpoint or the folder."""
        if self.entry:
            return self.entry.name
        return self.checkpoint.name if self.checkpoint else self.folder.resolve().name

    @property
    def few_steps(self) -> FewSteps | None:
        """How to generate with a checkpoint that is made for a few steps."""
        return few_steps.of_checkpoint(self.path) if self.checkpoint else None

    def describe(self) -> list[SourceFile]:
        """Return the manifest's entry of a checkpoint, with its hash; none for a folder."""
        if self.checkpoint is None:
            return []
        return [SourceFile(kind="checkpoint", name=self.path.name, sha256=self.checkpoint.file.sha256())]


def locate(
    source: str | Path,
    revision: str | None,
    scratch: Path,
    progress: Progress,
    *,
    prediction: Prediction | None = None,
) -> Source:
    """Return the folder of a pipeline. Of a model on the hub and of a checkpoint, it has only the configuration.

    Args:
        source: a folder, a `.safetensors` checkpoint, a name or hub id in the catalogue, or another hub id.
        revision: the hub's commit; optional for catalogue models.
        scratch: the folder for a checkpoint's configuration.
        progress: called when a download begins.
        prediction: what the UNet of a checkpoint predicts, if the file does not say.

    Raises:
        ConfigurationError: `source` is neither a folder nor a model, the revision is missing, or the download failed.
        ModelError: `source` is a file that cannot be baked.
        InvalidRequest: `prediction` is given for something else than a checkpoint.
    """
    if os.path.isfile(source):  # unlike Path.is_file, it accepts any text
        opened = checkpoint.read(Path(source), prediction)
        opened.write_configuration(scratch / "checkpoint")
        return Source(scratch / "checkpoint", checkpoint=opened)
    if prediction:
        raise InvalidRequest(
            f"{source} is not a checkpoint file, and its configuration says what it predicts.",
            fix="Leave out `prediction=`.",
        )
    if os.path.isdir(source):
        return Source(Path(source))
    if entry := catalogue.find(str(source)):
        return _configuration(entry.hub_id, revision or entry.revision, entry, progress)
    hub_id = str(source)
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
    return _configuration(hub_id, revision, None, progress)


def fetch(source: Source, scratch: Path, progress: Progress) -> Source:
    """Return the source with all of its files, downloaded if necessary.

    Args:
        source: what `locate` found.
        scratch: the folder for a copy, if the weights have to be stored in another format.
        progress: called when a download begins.

    Raises:
        ConfigurationError: the download failed.
    """
    if source.hub is None:
        return source
    hub = source.hub
    progress(f"downloading the weights of {hub.hub_id}: {len(hub.weights)} files, {hub.size / 1e6:,.1f} MB")
    folder = _download(hub.hub_id, hub.revision, hub.weights) if hub.weights else source.folder
    if source.entry and source.entry.pickled:
        folder = convert_pickles(folder, scratch / hub.hub_id.replace("/", "--"))
    return Source(folder, source.entry)


def fetch_loras(source: Source, progress: Progress) -> list[LoraFile]:
    """Return the LoRAs that a catalogue model needs, downloaded if necessary.

    Raises:
        ConfigurationError: the download failed.
    """
    lora = source.entry.lora if source.entry else None
    if lora is None:
        return []
    progress(f"downloading {lora.file} of {lora.hub_id} at {lora.revision[:12]}")
    return [(_download(lora.hub_id, lora.revision, [lora.file]) / lora.file, 1.0)]


def download(entry: CatalogueEntry, scratch: Path, progress: Progress) -> Path:
    """Download a model in the catalogue, and store its weights as safetensors if they are pickles.

    Raises:
        ConfigurationError: the download failed.
    """
    return fetch(_configuration(entry.hub_id, entry.revision, entry, progress), scratch, progress).folder


def _configuration(hub_id: str, revision: str, entry: CatalogueEntry | None, progress: Progress) -> Source:
    """Download a model's configuration files, and find out which weights are needed."""
    progress(f"downloading the configuration of {hub_id} at {revision[:12]}")
    sizes = _list_files(hub_id, revision)
    if sizes is None:
        return Source(_download(hub_id, revision, None), entry, HubModel(hub_id, revision, [], 0))
    index = None
    if _INDEX in sizes:
        index = pipeline_folder.read_index(_download(hub_id, revision, [_INDEX]))
    files = weight_files.needed(sizes, index)
    folder = _download(hub_id, revision, files.configuration)
    size = sum(sizes[name] for name in files.weights)
    return Source(folder, entry, HubModel(hub_id, revision, files.weights, size))


def _list_files(hub_id: str, revision: str) -> dict[str, int] | None:
    """Return the files of a commit and their sizes; None if the hub's client is set to be offline."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import huggingface_hub

    if huggingface_hub.constants.is_offline_mode():
        return None
    with _hub_errors(hub_id):
        info = huggingface_hub.HfApi().model_info(hub_id, revision=revision, files_metadata=True)
        return {file.rfilename: file.size or 0 for file in info.siblings or ()}


def _download(hub_id: str, revision: str, files: list[str] | None) -> Path:
    """Download files of a commit that are not in the hub's cache, and return the folder of the commit.

    Args:
        hub_id: owner/name.
        revision: the commit.
        files: the paths; None takes what is in the cache.
    """
    import huggingface_hub

    patterns = None if files is None else [glob.escape(file) for file in files]
    with _hub_errors(hub_id):
        return Path(huggingface_hub.snapshot_download(hub_id, revision=revision, allow_patterns=patterns))


@contextlib.contextmanager
def _hub_errors(hub_id: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub's client raises errors of several libraries
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise OutputError(
                f"There is no space left for {hub_id} in the cache of the hub.",
                fix="Free some, or set HF_HOME to a folder on another file system.",
            ) from None
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
            with output_folder.library_writes(converted.name):
                save_file(contiguous, converted, {"format": "pt"})
    return destination
