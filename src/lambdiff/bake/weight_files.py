"""Which files of a pipeline are needed: its configuration, and the weights of each component in one format.

Repositories on the hub often hold the same weights several times: as safetensors and as pickles, in single and in half
precision, for other libraries, and as one checkpoint at the root.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from lambdiff.bake.pipeline_folder import required_components

_CONFIGURATION: Final = (".json", ".txt", ".model")
_NAME: Final = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>\w+))?(?P<shard>-\d+-of-\d+)?"
    r"\.(?P<format>safetensors|bin)"
)
"""How diffusers and transformers name weights: https://huggingface.co/docs/diffusers/using-diffusers/loading"""
_INDEX: Final = re.compile(r".+\.(?P<format>safetensors|bin)\.index(?:\.(?P<variant>\w+))?\.json")
"""The list of a component's shards."""


class Weights(NamedTuple):
    """The weights of one component, in one format.

    Attributes:
        names: of the files, with the index of sharded weights.
        variant: what diffusers calls the variant, such as `fp16`; None for the usual weights.
        pickled: whether they are pickles.
    """

    names: list[str]
    variant: str | None
    pickled: bool


def choose(names: Iterable[str]) -> Weights | None:
    """Return the best weights among the files of a component, or None if there are none.

    Safetensors are preferred to pickles, then the usual weights to fp16 and fp16 to other variants, then one file to
    shards.

    Example:
        >>> choose(["model.bin", "model.fp16.safetensors", "model.onnx", "config.json"])
        Weights(names=['model.fp16.safetensors'], variant='fp16', pickled=False)
    """
    names = sorted(names)
    found: dict[tuple[bool, bool, bool, str, bool], list[str]] = {}
    for name in names:
        if match := _NAME.fullmatch(name):
            pickled, variant = match["format"] == "bin", match["variant"] or ""
            key = (pickled, bool(variant), variant != "fp16", variant, match["shard"] is not None)
            found.setdefault(key, []).append(name)
    if not found:
        return None
    (pickled, _, _, variant, sharded), chosen = min(found.items())
    if sharded:
        indexes = {name: match for name in names if (match := _INDEX.fullmatch(name))}
        wanted = ("bin" if pickled else "safetensors", variant)
        chosen += [name for name, match in indexes.items() if (match["format"], match["variant"] or "") == wanted]
    return Weights(chosen, variant or None, pickled)


def choose_in(folder: Path) -> Weights | None:
    """Return the best weights of a component's folder; see `choose`."""
    return choose(path.name for path in folder.glob("*"))


class Needed(NamedTuple):
    """The files that generation needs, as paths with forward slashes relative to the repository."""

    configuration: list[str]
    weights: list[str]


def needed(files: Iterable[str], index: dict[str, Any] | None) -> Needed:
    """Return the files of a repository that generation needs.

    Args:
        files: all paths of the repository.
        index: the content of its `model_index.json`; None if it is a single model instead of a pipeline.
    """
    paths = [PurePosixPath(file) for file in files]
    configuration = [str(path) for path in paths if len(path.parts) == 1 and _describes_repository(path.name)]
    weights = []
    for folder in required_components(index) if index is not None else [""]:
        names = [path.name for path in paths if path.parent == PurePosixPath(folder)]
        chosen = choose(names)
        own = [name for name in names if _is_configuration(name) and not (not folder and _describes_repository(name))]
        configuration += [str(PurePosixPath(folder, name)) for name in own]
        weights += [str(PurePosixPath(folder, name)) for name in (chosen.names if chosen else [])]
    return Needed(configuration, weights)


def copy_component(folder: Path, destination: Path) -> None:
    """Copy one component, with its weights under the names that diffusers looks for first.

    Args:
        folder: the component's folder.
        destination: the folder to create.
    """
    destination.mkdir()
    chosen = choose_in(folder)
    for path in sorted(folder.iterdir()):
        if _is_configuration(path.name) and path.is_file():
            shutil.copyfile(path, destination / path.name)
    if chosen is None:
        return
    rename = _remove_variant(chosen.variant)
    for name in chosen.names:
        if name.endswith(".json"):  # names the files of sharded weights
            shards = json.loads((folder / name).read_text(encoding="utf-8"))
            shards["weight_map"] = {key: rename(file) for key, file in shards["weight_map"].items()}
            (destination / rename(name)).write_text(json.dumps(shards), encoding="utf-8")
        else:
            shutil.copyfile(folder / name, destination / rename(name))


def _describes_repository(name: str) -> bool:
    return name == "model_index.json" or name.startswith("LICENSE")


def _is_configuration(name: str) -> bool:
    return PurePosixPath(name).suffix in _CONFIGURATION and not _INDEX.fullmatch(name)


def _remove_variant(variant: str | None) -> Callable[[str], str]:
    """Return a function that turns the name of a variant's file into the usual name."""
    return lambda name: name.replace(f".{variant}", "", 1) if variant else name
