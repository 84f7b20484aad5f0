"""Choose the engine for a model folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lambdiff.engine import manifest as manifests
from lambdiff.engine.base import Engine
from lambdiff.errors import MissingExtra

if TYPE_CHECKING:
    from lambdiff.engine.runtime import GraphCache


OpenCache = Callable[[Path, manifests.Manifest], "GraphCache | None"]


def open_engine(folder: Path, open_cache: OpenCache | None = None, *, memory_bytes: int | None = None) -> Engine:
    """Return the engine that the manifest of a baked folder names. It is not loaded yet.

    Args:
        folder: a folder with a manifest.
        open_cache: returns where the OpenVINO engine keeps compiled graphs; by default it keeps none.
        memory_bytes: the memory that this process may use; by default the machine's.

    Raises:
        ModelError: the folder is unusable.
        MissingExtra: the engine's library is not installed.

    Example:
        >>> from lambdiff.protocol.contract import GenerateRequest
        >>> engine = open_engine(folder)
        >>> request = GenerateRequest(prompt="a cat in a top hat", seed=7)
        >>> engine.generate(request.resolve(engine.manifest.defaults)).pixels.shape
        (256, 256, 3)
    """
    manifest = manifests.read(folder)
    if manifest.engine == "diffusers":
        try:
            from lambdiff.engine.diffusers import DiffusersEngine
        except ImportError:
            raise MissingExtra("The diffusers engine", "diffusers") from None
        return DiffusersEngine(folder, manifest)
    cache = open_cache(folder, manifest) if open_cache else None  # before OpenVINO is imported, which takes a while
    try:
        from lambdiff.engine.openvino import OpenVinoEngine

        if importlib.util.find_spec("tokenizers") is None:  # imported when the model is loaded
            raise ImportError
    except ImportError:
        raise MissingExtra("The OpenVINO engine", "local") from None
    return OpenVinoEngine(folder, manifest, cache=cache, memory_bytes=memory_bytes)
