"""Which model folder is deployed: the built-in one, a folder, or a hub model that is baked first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lambdiff import config
from lambdiff.engine import manifest as manifests
from lambdiff.errors import ConfigurationError, ModelError
from lambdiff.infra import toolchain
from lambdiff.infra.settings import EngineName
from lambdiff.local import builtin

BUILT_IN: Final = "built-in"


Say = Callable[[str], None]


def model_folder(model: str, engine: EngineName, *, say: Say = lambda _: None, progress: Say = lambda _: None) -> Path:
    """A baked folder for what the caller named.

    Args:
        model: `built-in`, a baked folder, or a name or hub id of the catalogue.
        engine: what a hub model is baked for.
        say: told the license of a hub model, each time.
        progress: told what is being done where that takes long.

    Raises:
        ConfigurationError: no such folder and no such model.
        MissingExtra: the model has to be baked, and the extra for that is not installed.
        ModelError: the folder is not usable.
        ToolchainError: a model would have to be baked, but no container engine answers.
    """
    if model == BUILT_IN:
        return builtin.builtin_model_dir()
    folder = Path(model).expanduser()
    if (folder / manifests.FILENAME).is_file():
        return folder
    if folder.is_dir():
        raise ConfigurationError(
            f"{folder} is a folder, but not a baked model.", fix=f"Bake it first: lambdiff bake {folder} -o baked"
        )
    from lambdiff.bake import bake, catalogue
    from lambdiff.bake.provenance import BAKED_BY

    entry = catalogue.get(model)
    baked = config.home() / "models" / f"{entry.name}-{entry.revision[:12]}-{engine}"
    say(f"{entry.hub_id} has the license {entry.license}: {entry.license_url}")
    try:
        maker = manifests.read(baked).baked_by
    except ModelError:  # not there, cut short, or of another version's format
        toolchain.container_engine()  # before the minutes that baking takes
        shutil.rmtree(baked, ignore_errors=True)
        bake.bake(entry.name, baked, engine=engine, progress=progress)
    else:
        if maker != BAKED_BY:
            say(f"The model was baked by {maker}. This version may draw faster: remove {baked} to have it baked again.")
    return baked
