"""The origin and the license of the weights, for the manifest and for the `NOTICE.txt` next to the weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdiff._version import __version__
from lambdiff.bake.catalogue import TINY_DECODER, CatalogueEntry
from lambdiff.bake.sources import Source

BAKED_BY: Final = f"lambdiff {__version__}"
NO_SAFETY_CHECKER: Final = "No safety checker is run: images are returned as the model generates them."


@dataclass(frozen=True)
class Provenance:
    """The caller's information about a model, completed from the catalogue.

    Attributes:
        name: the model's name in replies.
        revision: the commit, or `local`.
        license: SPDX identifier or name, or `unknown`.
        license_url: the address of the license's text, if known.
        origin: where the weights and their training data come from, one line each.
        tiny_decoder: the catalogue entry of the decoder that replaces the model's own, if any.
    """

    name: str
    revision: str
    license: str
    license_url: str | None
    origin: tuple[str, ...]
    tiny_decoder: CatalogueEntry | None


def complete(
    source: Source,
    name: str | None,
    revision: str | None,
    license: str | None,
    origin: Sequence[str],
    decoder: str | Path,
) -> Provenance:
    """Fill in missing values from the catalogue, or from the folder."""
    entry = source.entry
    tiny_decoder = TINY_DECODER if decoder == "tiny" else None
    places = tuple(origin) or ((entry.url,) if entry else ())
    return Provenance(
        name=name or (entry.name if entry else source.folder.resolve().name),
        revision=revision or (entry.revision if entry else "local"),
        license=license or (entry.license if entry else "unknown"),
        license_url=entry.license_url if entry else None,
        origin=(*places, tiny_decoder.url) if tiny_decoder else places,
        tiny_decoder=tiny_decoder,
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
    lines += [f"Baked by {BAKED_BY}; the weights were not trained further.", NO_SAFETY_CHECKER]
    (destination / "NOTICE.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
