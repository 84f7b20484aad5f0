"""What lambdiff keeps on this machine although it could be made again, for `lambdiff cache`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdiff import config
from lambdiff.local import compiled_graphs
from lambdiff.local.cache_folder import Group

DEPLOY_FOLDERS: Final = {
    "models": "models that `lambdiff deploy` baked",
    "contexts": "staged files of container images",
    "cdk": "staged files of stacks",
    "toolchain": "the CDK CLI",
}
"""The folders below LAMBDIFF_HOME that commands fill again when they need them, and what each contains."""


@dataclass(frozen=True)
class Folder:
    """A folder that is filled again when it is needed.

    Attributes:
        path: the folder.
        content: what it contains.
        size: in bytes.
    """

    path: str
    content: str
    size: int


@dataclass(frozen=True)
class Report:
    """What is kept.

    Attributes:
        folder: the folder of the compiled graphs.
        problem: why no graphs are kept; None if they are.
        size: of all graphs, in bytes.
        limit: the maximum of `size`.
        graphs: by model, the one used last first.
        others: everything else that can be made again.
    """

    folder: str
    problem: str | None
    size: int
    limit: int
    graphs: list[Group]
    others: list[Folder]


def report() -> Report:
    """List what is kept.

    Raises:
        ConfigurationError: `LAMBDIFF_HOME` is not a path.
    """
    folder = compiled_graphs.cache_folder()
    graphs = folder.groups()
    return Report(
        folder=str(folder.root),
        problem=compiled_graphs.problem(),
        size=sum(group.size for group in graphs),
        limit=folder.limit,
        graphs=graphs,
        others=_others(),
    )


def clear(*, everything: bool = False) -> int:
    """Remove the compiled graphs, and return how many bytes became free.

    Args:
        everything: also remove what `lambdiff deploy` keeps. Do not do this while it runs.
    """
    removed = compiled_graphs.cache_folder().clear()
    if everything:
        others = _others()
        for folder in others:
            shutil.rmtree(folder.path, ignore_errors=True)
        removed += sum(folder.size for folder in others) - sum(folder.size for folder in _others())
    return removed


def _others() -> list[Folder]:
    found = ((config.home() / name, content) for name, content in DEPLOY_FOLDERS.items())
    return [Folder(str(path), content, _size(path)) for path, content in found if path.is_dir()]


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:  # another process has just removed it
                continue
    return total
