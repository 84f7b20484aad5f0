"""Chooses the model folder to deploy: the built-in model, a baked folder, or a catalogue model, baked if necessary."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lambdiff import config
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import EngineName, Manifest
from lambdiff.errors import ModelError, did_you_mean
from lambdiff.local import builtin
from lambdiff.protocol.validation import raise_for

if TYPE_CHECKING:
    from lambdiff.bake.catalogue import CatalogueEntry

BUILT_IN: Final = "built-in"
_MOST: Final = 10_240
"""MB of memory that a Lambda function may have."""

Say = Callable[[str], None]


def check(model: str, engine: EngineName) -> None:
    """Check that a model can be deployed, as far as this takes no time: hashes are compared when it is staged.

    Args:
        model: as for `model_folder`.
        engine: the engine that the image is built with.

    Raises:
        InvalidRequest: there is no such model, or it was baked for another engine.
        MissingExtra: the model has to be baked, and the `bake` extra is not installed.
        ModelError: the folder is damaged.
    """
    from lambdiff.bake import catalogue
    from lambdiff.bake.parameters import find_libraries

    if not model:  # otherwise the current folder
        raise_for([("model", "must not be empty")])
    folder = builtin.builtin_model_dir() if model == BUILT_IN else Path(model).expanduser()
    if (folder / manifests.FILENAME).is_file():
        baked_for = manifests.read(folder).engine
        if baked_for != engine:
            raise_for([("model", f"was baked for the {baked_for} engine, not for {engine}; pass `engine={baked_for}`")])
    elif folder.is_dir():
        raise_for([("model", f"is a folder without a baked model; bake it first: `lambdiff bake {folder} -o baked`")])
    elif catalogue.find(model) is None:
        names = ", ".join((BUILT_IN, *catalogue.CATALOGUE))
        suggestion = did_you_mean(model, (BUILT_IN, *catalogue.CATALOGUE))
        raise_for([("model", f"must be one of {names}, or the folder of a baked model, not {model!r}{suggestion}")])
    elif _read_baked(_baked_folder(catalogue.get(model), engine)) is None:
        find_libraries(engine)


def check_memory(manifest: Manifest, memory_mb: int, *, force: bool) -> list[str]:
    """Compare the memory that a model needs with that of the function, and return notes.

    Args:
        manifest: the model's; models that were baked without an estimate are not checked.
        memory_mb: the function's memory.
        force: whether to return a note instead of the error.

    Raises:
        InvalidRequest: the model does not fit, whatever the processor.
    """
    needed = manifest.memory
    if needed is None or max(needed.bf16_mb, needed.f32_mb) <= memory_mb:
        return []
    if needed.bf16_mb <= memory_mb:
        return [
            f"On processors without bf16, {manifest.name} needs about {needed.f32_mb:,} MB for an image with its "
            f"defaults, more than the function's {memory_mb:,} MB; requests would fail there, and Lambda does not "
            "promise bf16."
        ]
    problem = f"must be about {needed.bf16_mb:,} or more for {manifest.name}, not {memory_mb:,}"
    if needed.bf16_mb > _MOST:
        problem = f"can be at most {_MOST:,}, and {manifest.name} needs about {needed.bf16_mb:,}"
    if not force:
        raise_for([("memory_mb", f"{problem}; bake with `precision=int8`, or pass `force=True` if this is wrong")])
    return [f"The function's memory {problem}."]


def model_folder(
    model: str,
    engine: EngineName,
    *,
    before_bake: Callable[[], object] = lambda: None,
    say: Say = lambda _: None,
    progress: Say = lambda _: None,
) -> Path:
    """Return a baked folder for a model, and bake it if necessary.

    Args:
        model: `built-in`, a baked folder, or a name or hub id in the catalogue.
        engine: the engine to bake a catalogue model for.
        before_bake: called before a bake, for checks that should not fail after the minutes that it takes.
        say: receives the license of a catalogue model.
        progress: receives the current step of a bake.

    Raises:
        ConfigurationError: there is no such folder and no such model.
        MissingExtra: the model has to be baked, and the `bake` extra is not installed.
        ModelError: the model cannot be baked.
    """
    if model == BUILT_IN:
        return builtin.builtin_model_dir()
    folder = Path(model).expanduser()
    if (folder / manifests.FILENAME).is_file():
        return folder
    return _catalogue_model(model, engine, before_bake, say, progress)


def _catalogue_model(
    model: str, engine: EngineName, before_bake: Callable[[], object], say: Say, progress: Say
) -> Path:
    """Return the folder of a catalogue model, and bake it if there is none or an incomplete one."""
    from lambdiff.bake import bake, catalogue
    from lambdiff.bake.provenance import BAKED_BY

    entry = catalogue.get(model)
    baked = _baked_folder(entry, engine)
    say(f"{entry.hub_id} has the license {entry.license}: {entry.license_url}")
    found = _read_baked(baked)
    if found is None:
        before_bake()
        shutil.rmtree(baked, ignore_errors=True)
        bake.bake(entry.name, baked, engine=engine, progress=progress)
    elif found.baked_by != BAKED_BY:
        say(
            f"The model was baked by {found.baked_by}. This version may generate faster: "
            f"remove {baked} and it will be baked again."
        )
    return baked


def _baked_folder(entry: CatalogueEntry, engine: EngineName) -> Path:
    return config.home() / "models" / f"{entry.name}-{entry.commits}-{engine}"


def _read_baked(folder: Path) -> Manifest | None:
    """Return the manifest of lambdiff's own folder; None if it is missing, incomplete, or in another format."""
    try:
        return manifests.read(folder)
    except ModelError:
        return None
