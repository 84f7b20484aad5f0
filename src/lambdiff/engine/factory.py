"""Which engine opens a model folder."""

from __future__ import annotations

from pathlib import Path

from lambdiff.engine import manifest as manifests
from lambdiff.engine.base import Engine
from lambdiff.errors import MissingExtra


def open_engine(folder: Path, engine: str | None = None) -> Engine:
    """The engine for a baked folder, not loaded yet.

    Args:
        folder: a folder with a manifest.
        engine: overrides the manifest's; `diffusers` needs a folder that holds diffusers' files.

    Raises:
        ModelError: the folder is unusable.
        MissingExtra: the engine's library is not installed.
    """
    manifest = manifests.read(folder)
    if (engine or manifest.engine) == "diffusers":
        try:
            from lambdiff.engine.diffusers import DiffusersEngine
        except ImportError:
            raise MissingExtra("The diffusers engine", "diffusers") from None
        return DiffusersEngine(folder, manifest)
    try:
        from lambdiff.engine.openvino import OpenVinoEngine
    except ImportError:
        raise MissingExtra("The OpenVINO engine", "local") from None
    return OpenVinoEngine(folder, manifest)
