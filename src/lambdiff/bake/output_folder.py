"""The output folder: written next to its destination, then moved into place when it is complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lambdiff.engine import manifest as manifests
from lambdiff.engine.base import first_line
from lambdiff.errors import OutputError
from lambdiff.files import exists, unwritable
from lambdiff.temporary import temporary_path

_FIX: Final = "Free some space on the disk, or choose a folder on another one."


def check_destination(out: Path, *, force: bool) -> None:
    """Check that `out` does not exist, or with `force` that it is a baked model or an empty folder.

    Raises:
        OutputError: `out` must not be replaced.
    """
    try:
        if not exists(out):
            return
        replaceable = (out / manifests.FILENAME).is_file() or (out.is_dir() and not any(out.iterdir()))
    except (OSError, ValueError) as error:
        raise unwritable(out, error) from None
    if not force:
        raise OutputError(f"{out} already exists.", fix="Choose another folder, or replace it with `force=True`.")
    if not replaceable:
        raise OutputError(f"{out} is not a baked model, so it is not replaced.", fix="Choose another folder.")


@contextlib.contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """Create a temporary folder on the same file system as `out`, and remove it at the end.

    Raises:
        OutputError: the folder, or something in it, cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise unwritable(out, error) from None
    with temporary_path(out.parent, f".{out.name[:40]}.") as scratch:
        try:
            scratch.mkdir(mode=0o700)
        except (OSError, ValueError) as error:
            raise unwritable(out, error) from None
        try:
            yield scratch
        except OSError as error:
            raise OutputError(f"{out} could not be written: {error.strerror or error}.", fix=_FIX) from None


@contextlib.contextmanager
def library_writes(name: str) -> Iterator[None]:
    """Report a library that cannot write a file as `OutputError`; most raise errors of their own if a disk is full.

    Args:
        name: what is written, for the message.

    Raises:
        OutputError: the block raised any error.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # OpenVINO and safetensors share no narrower class
        raise OutputError(f"{name} could not be written: {first_line(error)}.", fix=_FIX) from error


def move_into_place(folder: Path, out: Path) -> None:
    """Rename the finished folder to `out`; an earlier `out` is moved into the scratch folder, which is removed."""
    replaced = folder.parent / "replaced"
    try:
        if out.exists():
            out.rename(replaced)
        folder.rename(out)
    except BaseException:  # Ctrl-C between the two must not lose the earlier model
        if replaced.exists() and not out.exists():
            replaced.rename(out)
        raise
