"""Write a file atomically: completely or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from lambdiff.errors import OutputError


def check_writable(path: Path, *, force: bool) -> None:
    """Fail now if `write_atomically` would fail later, so that no image is billed that cannot be saved.

    Raises:
        OutputError: the file exists and `force` is not set, or its folder is missing or not writable.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", fix="Add a file name to it.")
    if path.exists() and not force:
        raise _exists(path)
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist.", fix=f"Create it: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"The folder {path.parent} is not writable.", fix="Choose another folder.")


def write_atomically(path: Path, content: bytes, *, force: bool = False, mode: int = 0o644) -> Path:
    """Write `content` to a temporary file and move it to `path`, so that nobody ever sees a half-written file.

    Without `force` an existing file is never replaced, not even one that has just been created: a hard link fails if
    the name is taken, while a rename would overwrite.

    Args:
        path: the file. With mode 0o600 a missing folder is created, readable by its owner only.
        content: what to write.
        force: replace an existing file.
        mode: the file's permissions.

    Returns:
        The path.

    Raises:
        OutputError: the file exists, or cannot be written (disk full, read-only, no such folder).
    """
    try:
        if mode == 0o600:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_writable(path, force=force)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, mode)
            if force:
                os.replace(name, path)
            else:
                _move_without_replacing(name, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", fix="Choose another folder.") from None
    return path


def _move_without_replacing(source: str, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links (FAT, some network shares) needs two steps: check, then rename.
        if target.exists():
            raise FileExistsError from None
        os.rename(source, target)


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path} already exists.", fix="Choose another name, or pass `force=True` to overwrite it.")
