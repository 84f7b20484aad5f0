"""The output folder: written next to its destination, then moved into place when it is complete."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lambdiff.engine import manifest as manifests
from lambdiff.errors import OutputError
from lambdiff.files import exists, unwritable


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
        scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:40]}."))
    except (OSError, ValueError) as error:
        raise unwritable(out, error) from None
    try:
        yield scratch
    except OSError as error:
        raise OutputError(f"{out} could not be written: {error}.", fix="Choose another folder.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def move_into_place(folder: Path, out: Path) -> None:
    """Rename the finished folder to `out`; an earlier `out` is moved into the scratch folder, which is removed."""
    if out.exists():
        out.rename(folder.parent / "replaced")
    folder.rename(out)
