"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from lambdiff.errors import OutputError


def check_free(path: Path, *, force: bool) -> None:
    """Refuse early what `write_whole` would refuse late, before a picture has been paid for.

    Raises:
        OutputError: the file exists and `force` is not set, or its folder is missing or not writable.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", fix="Name a file in it.")
    if path.exists() and not force:
        raise OutputError(
            f"{path} exists already.", fix="Choose another name, or overwrite it with --force (force=True)."
        )
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist.", fix=f"Make it: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"The folder {path.parent} is not writable.", fix="Choose another folder.")


def write_whole(path: Path, content: bytes, *, force: bool = False, mode: int = 0o644) -> Path:
    """Write `content` to `path` through a temporary file beside it, so that no half-written file is ever seen.

    Without `force` an existing file is never replaced, not even one that appeared a moment ago (a hard link fails
    where a rename would overwrite).

    Raises:
        OutputError: the file exists, or the system refused (disk full, read-only, no such folder).
    """
    try:
        if mode == 0o600:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_free(path, force=force)
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
        raise OutputError(
            f"{path} exists already.", fix="Choose another name, or overwrite it with --force (force=True)."
        ) from None
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror}.", fix="Choose another place with -o."
        ) from None
    return path


def _move_without_replacing(source: str, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links (FAT, some network shares): the check and the rename are then two steps.
        if target.exists():
            raise FileExistsError from None
        os.rename(source, target)
