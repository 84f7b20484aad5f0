"""Chooses the model folder to deploy: the built-in model, a baked folder, or a catalogue model, baked if necessary."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lambdiff import config
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import EngineName
from lambdiff.errors import ConfigurationError, ModelError
from lambdiff.infra import toolchain
from lambdiff.local import builtin

BUILT_IN: Final = "built-in"

Say = Callable[[str], None]


def model_folder(model: str, engine: EngineName, *, say: Say = lambda _: None, progress: Say = lambda _: None) -> Path:
    """Return a baked folder for a model, and bake it if necessary.

    Args:
        model: `built-in`, a baked folder, or a name or hub id in the catalogue.
        engine: the engine to bake a catalogue model for.
        say: receives the license of a catalogue model.
        progress: receives the current step of a bake.

    Raises:
        ConfigurationError: there is no such folder and no such model.
        MissingExtra: the model has to be baked, and the `bake` extra is not installed.
        ModelError: the folder is not usable.
        ToolchainError: the model has to be baked, but no container engine answers.
    """
    if model == BUILT_IN:
        return builtin.builtin_model_dir()
    folder = Path(model).expanduser()
    if (folder / manifests.FILENAME).is_file():
        return folder
    if folder.is_dir():
        raise ConfigurationError(
            f"{folder} is not a baked model.", fix=f"Bake it first with `lambdiff bake {folder} -o baked`."
        )
    return _catalogue_model(model, engine, say, progress)


def _catalogue_model(model: str, engine: EngineName, say: Say, progress: Say) -> Path:
    """Return the folder of a catalogue model, and bake it if there is none or an incomplete one."""
    from lambdiff.bake import bake, catalogue
    from lambdiff.bake.provenance import BAKED_BY

    entry = catalogue.get(model)
    baked = config.home() / "models" / f"{entry.name}-{entry.revision[:12]}-{engine}"
    say(f"{entry.hub_id} has the license {entry.license}: {entry.license_url}")
    try:
        baked_by = manifests.read(baked).baked_by
    except ModelError:  # missing, incomplete, or in another version's format
        # Fail now rather than after the minutes that baking takes.
        toolchain.container_engine()
        shutil.rmtree(baked, ignore_errors=True)
        bake.bake(entry.name, baked, engine=engine, progress=progress)
    else:
        if baked_by != BAKED_BY:
            say(
                f"The model was baked by {baked_by}. This version may generate faster: "
                f"remove {baked} and it will be baked again."
            )
    return baked
