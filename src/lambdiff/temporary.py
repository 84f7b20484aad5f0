"""Temporary files and folders that do not outlive the program, even if it is interrupted."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from lambdiff import forks

_paths: Final[set[Path]] = set()


@contextlib.contextmanager
def temporary_path(folder: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """Yield a new path, and remove the file or folder that is there when the block ends.

    The path is known before anything is created, so that `remove_all` finds it whenever the program is interrupted.

    Args:
        folder: where the file or folder will be.
        prefix, suffix: of its name.

    Example:
        >>> with temporary_path(Path(), ".cat.") as path:
        ...     path.write_text("half a cat")
        10
        >>> path.exists()
        False
    """
    path = folder / f"{prefix}{os.urandom(6).hex()}{suffix}"
    _paths.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _paths.discard(path)


def create(path: Path) -> BinaryIO:
    """Create a file that only its owner can read, and open it for writing.

    Raises:
        OSError: it exists or cannot be created.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def remove_all() -> None:
    """Remove what is left, for a program that ends without leaving all blocks."""
    for path in list(_paths):
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
    if path.is_dir():
        # Twice, because a thread that is not stopped may still be writing to it.
        for _ in range(2):
            shutil.rmtree(path, ignore_errors=True)


class _Paths:
    def renew_after_fork(self) -> None:
        _paths.clear()  # they are the parent's


_owner: Final = _Paths()
forks.renew_in_children(_owner)
