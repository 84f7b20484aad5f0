"""The origin and the license of the weights, for the manifest and for the `NOTICE.txt` next to the weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdiff._version import __version__
from lambdiff.bake.catalogue import CatalogueEntry
from lambdiff.bake.sources import Source
from lambdiff.engine.manifest import SourceFile

BAKED_BY: Final = f"lambdiff {__version__}"
NO_SAFETY_CHECKER: Final = "No safety checker is run: images are returned as the model generates them."


@dataclass(frozen=True)
class Provenance:
    """The caller's information about a model, completed from the catalogue.

    Attributes:
        name: the model's name in replies.
        revision: the commit, the beginning of the checkpoint's hash, or `local`; then each file that was added.
        license: SPDX identifier or name, or `unknown`.
        license_url: the address of the license's text, if known.
        origin: where the weights and their training data come from, one line each.
        tiny_decoder: the catalogue entry of the decoder that replaces the model's own, if any.
        files: the checkpoint, LoRAs and embeddings that the model was made from.
    """

    name: str
    revision: str
    license: str
    license_url: str | None
    origin: tuple[str, ...]
    tiny_decoder: CatalogueEntry | None
    files: tuple[SourceFile, ...] = ()


def complete(
    source: Source,
    name: str | None,
    revision: str | None,
    license: str | None,
    origin: Sequence[str],
    tiny_decoder: CatalogueEntry | None = None,
    files: Sequence[SourceFile] = (),
) -> Provenance:
    """Fill in missing values from the catalogue, or from the files.

    The revision names every file that was added, since the model changes with it.
    """
    entry = source.entry
    first = next((file.sha256[:12] for file in files if file.kind == "checkpoint"), "local")
    base = revision or (entry.revision if entry else first)
    added = [file.short for file in files if file.kind != "checkpoint"]
    stated = source.checkpoint.file.metadata.get("modelspec.license") if source.checkpoint else None
    places = tuple(origin) or tuple(each.url for each in (entry, entry and entry.lora) if each)
    return Provenance(
        name=name or source.name,
        revision="+".join((base, *added)),
        license=license or (entry.license if entry else stated) or "unknown",
        license_url=entry.license_url if entry else None,
        origin=(*places, tiny_decoder.url) if tiny_decoder else places,
        tiny_decoder=tiny_decoder,
        files=tuple(files),
    )


def write_notice(provenance: Provenance, source: Source, destination: Path) -> None:
    """Write `NOTICE.txt`, and copy the model's own license files if it has any."""
    for path in sorted(source.folder.glob("LICENSE*")):
        shutil.copyfile(path, destination / path.name)
    lines = [
        f"Model: {provenance.name}",
        f"License: {provenance.license}",
        *([f"License text: {provenance.license_url}"] if provenance.license_url else []),
        *(f"From: {line}" for line in provenance.origin),
    ]
    if decoder := provenance.tiny_decoder:
        lines.append(f"Decoder: {decoder.name}, license {decoder.license}, {decoder.license_url}")
    lines += [f"Made with: {file.name}, sha256 {file.sha256}" for file in provenance.files]
    lines += [f"Baked by {BAKED_BY}; the weights were not trained further.", NO_SAFETY_CHECKER]
    (destination / "NOTICE.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
