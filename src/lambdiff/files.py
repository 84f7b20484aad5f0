"""Write a file atomically: completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from lambdiff.errors import OutputError
from lambdiff.printable import printable
from lambdiff.temporary import create, temporary_path

_SHOWN: Final = 200
"""Characters of a path in a message."""
_PROBE: Final = bytes(64 * 1024)
"""What `check_writable` writes to find out whether there is space; few images are smaller."""
_FIXES: Final = {
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Remove the links that lead to each other.",
    errno.ENOSPC: "Free some space, or choose another folder.",
    errno.EDQUOT: "Free some space, or choose another folder.",
}
_REFUSALS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR})
_DEVICES: Final = frozenset(
    {"AUX", "CON", "CONIN$", "CONOUT$", "NUL", "PRN"}
    | {f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"}
)
"""Names that Windows reserves, with any suffix: https://learn.microsoft.com/windows/win32/fileio/naming-a-file"""


def check_writable(paths: Iterable[Path], *, force: bool) -> None:
    """Fail now if `write_atomically` would fail later, so that no image is billed that cannot be saved.

    A small file is written to each folder and removed, because permissions alone tell neither that a file system is
    read-only nor that it is full.

    Raises:
        OutputError: a file exists and `force` is not set, or it cannot be written.
    """
    probed = set()
    for path in paths:
        with _explained(path):
            _check_name(path, force=force)
            if path.parent not in probed:
                probed.add(path.parent)
                with tempfile.TemporaryFile(dir=path.parent, buffering=0) as stream:
                    stream.write(_PROBE)


def write_atomically(path: Path, content: bytes, *, force: bool = False, mode: int = 0o644) -> Path:
    """Write `content` to a temporary file and move it to `path`, so that nobody ever sees a half-written file.

    Without `force` an existing file is never replaced, not even one that has just been created.

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
    with _explained(path):
        if mode == 0o600:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_name(path, force=force)
        with _temporary_file(path, content, mode) as name:
            if force:
                os.replace(name, path)
            else:
                _move_without_replacing(name, path)
    return path


def write_to_free_path(paths: Iterator[Path], content: bytes) -> Path:
    """Write `content` atomically to the first of the paths that is free, even if other programs take some meanwhile.

    Args:
        paths: candidates in one folder; endless, or one of them must be free.
        content: what to write.

    Returns:
        The path.

    Raises:
        OutputError: the file cannot be written.
    """
    path = next(paths)
    with _explained(path), _temporary_file(path, content, 0o644) as name:
        while True:
            try:
                _move_without_replacing(name, path)
            except FileExistsError:
                path = next(paths)
            else:
                return path


def open_regular(path: Path) -> io.FileIO:
    """Open a file for reading, unbuffered. Pipes and devices are refused: their end may never come.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    # Without O_NONBLOCK, which means nothing for a regular file, opening a pipe waits for somebody who writes.
    nonblocking = getattr(os, "O_NONBLOCK", 0)  # not on Windows
    stream = open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | nonblocking))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return stream


def is_device_name(name: str) -> bool:
    """Whether Windows takes a file name for a device, whatever its suffix.

    Example:
        >>> is_device_name("nul.png"), is_device_name("null.png")
        (True, False)
    """
    return name.partition(".")[0].rstrip().upper() in _DEVICES


def unwritable(path: Path, error: OSError | ValueError) -> OutputError:
    """Return the error for a file or folder that the system refuses.

    Args:
        path: the file or folder.
        error: what the system said; a ValueError stands for a name that it cannot represent.
    """
    if isinstance(error, OSError):
        fix = _FIXES.get(error.errno or 0, "Choose another folder.")
        return OutputError(f"{printable(path, _SHOWN)} cannot be written: {error.strerror or error}.", fix=fix)
    return OutputError(f"{printable(path, _SHOWN)} is not a possible name: {error}.", fix="Choose another name.")


def exists(path: Path) -> bool:
    """Whether a name is taken, also by a link that leads nowhere.

    Raises:
        OSError, ValueError: the system does not tell, for instance because the name is too long. `Path.exists` hides
            some of these errors, depending on the version of Python.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def explain(error: OSError) -> OutputError | None:
    """Return the error for a file system that is full, read-only or closed to the user; None for any other reason.

    Args:
        error: from any place, for instance from a log file that could not be continued.
    """
    if error.errno in _FIXES or (error.errno in _REFUSALS and error.filename is not None):  # sockets have no file name
        return unwritable(Path(str(error.filename or "A file")), error)
    return None


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the system's errors into lambdiff's."""
    try:
        yield
    except FileExistsError:
        raise _exists(path) from None
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None


def _check_name(path: Path, *, force: bool) -> None:
    """Refuse a path that names a folder or an existing file, or that is in no folder."""
    if os.name == "nt" and is_device_name(path.name):
        raise OutputError(f"{path.name} is a device of Windows.", fix="Choose another name.")
    if not exists(path.parent):
        folder = printable(path.parent, _SHOWN)
        raise OutputError(f"The folder {folder} does not exist.", fix=f"Create it: mkdir -p {folder}")
    if not path.parent.is_dir():
        raise OutputError(f"{printable(path.parent, _SHOWN)} is not a folder.", fix="Choose another folder.")
    if not exists(path):
        return
    if path.is_dir():
        raise OutputError(f"{printable(path, _SHOWN)} is a folder.", fix="Add a file name to it.")
    if not force:
        raise _exists(path)


@contextlib.contextmanager
def _temporary_file(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """Write `content` to a file beside `path`, which is removed unless it has been moved."""
    with temporary_path(path.parent, f".{path.name[:40]}.", ".part") as name:
        with create(name) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, mode)
        yield name


def _move_without_replacing(source: Path, target: Path) -> None:
    """Move a file; unlike a rename, a hard link fails if the name is taken.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links, such as FAT or some network shares. Windows' rename does not replace.
        if os.name != "nt":
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.rename(source, target)


def _exists(path: Path) -> OutputError:
    what = "is a link to a file that does not exist" if path.is_symlink() and not path.exists() else "already exists"
    return OutputError(
        f"{printable(path, _SHOWN)} {what}.", fix="Choose another name, or pass `force=True` to overwrite it."
    )
