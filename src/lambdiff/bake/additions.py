"""LoRAs and embeddings that a bake adds to a model: all read and checked first, then merged into a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lambdiff.bake import embedding, lora, unconverted
from lambdiff.bake.embedding import Embedding
from lambdiff.bake.few_steps import FewSteps
from lambdiff.bake.lora import Lora
from lambdiff.bake.parameters import EmbeddingFile, LoraFile, Progress
from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.engine.manifest import SourceFile
from lambdiff.errors import InvalidRequest


@dataclass(frozen=True)
class Additions:
    """LoRAs and embeddings that fit the model."""

    loras: tuple[Lora, ...] = ()
    embeddings: tuple[Embedding, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.loras or self.embeddings)

    @property
    def few_steps(self) -> FewSteps | None:
        """How to generate with a LoRA that makes the model generate in a few steps, if there is one."""
        return next((each.few_steps for each in self.loras if each.few_steps), None)

    @property
    def notes(self) -> list[str]:
        """A sentence for each LoRA and each embedding."""
        return [each.note for each in self.loras] + [each.note for each in self.embeddings]

    def describe(self) -> list[SourceFile]:
        """Return the entries of the manifest, with the hash of each file."""
        loras = [
            SourceFile(kind="lora", name=each.file.path.name, sha256=each.file.sha256(), weight=each.weight)
            for each in self.loras
        ]
        return loras + [
            SourceFile(kind="embedding", name=each.file.path.name, sha256=each.file.sha256(), word=each.word)
            for each in self.embeddings
        ]

    def merge(self, folder: Path, pipeline: PipelineConfig, progress: Progress) -> None:
        """Merge them into a folder that may be changed.

        Raises:
            ModelError: a library cannot merge one.
        """
        if self.loras:
            lora.fuse(self.loras, folder, pipeline, progress)
        if self.embeddings:
            embedding.add(self.embeddings, folder, pipeline, progress)


def read(
    loras: Sequence[LoraFile], embeddings: Sequence[EmbeddingFile], folder: Path, pipeline: PipelineConfig
) -> Additions:
    """Read the headers of LoRAs and embeddings, and check that each fits the model.

    Args:
        loras: (file, weight) for each LoRA.
        embeddings: (word, file) for each embedding; None as the word takes the file's name.
        folder: the model's folder, of which only configurations and tokenizers are read.
        pipeline: the model's configuration.

    Raises:
        InvalidRequest: a weight or a word cannot be used, or two LoRAs exclude each other.
        ModelError: a file is damaged, is something else, or belongs to another model.
    """
    read_loras = tuple(lora.read(Path(path), weight, folder, pipeline) for path, weight in loras)
    few_steps = [each for each in read_loras if each.few_steps]
    if len(few_steps) > 1:
        names = " and ".join(each.file.path.name for each in few_steps[:2])
        raise InvalidRequest(f"{names} both make the model generate in a few steps.", fix="Pass one of them.")
    read_embeddings = tuple(embedding.read(Path(path), word, folder, pipeline) for word, path in embeddings)
    embedding.check_together(read_embeddings, folder)
    return Additions(read_loras, read_embeddings)


def copy(folder: Path, destination: Path, pipeline: PipelineConfig, progress: Progress) -> Path:
    """Copy a model, so that it can be changed, and return `destination`."""
    destination.mkdir()
    unconverted.copy(folder, destination, pipeline, progress)
    return destination
