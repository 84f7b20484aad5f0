"""files.py: whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lambdiff.errors import OutputError
from lambdiff.files import write_whole


def test_writes_the_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    """The folder holds the file alone, with the bytes that were given."""
    assert write_whole(tmp_path / "a.png", b"bytes").read_bytes() == b"bytes"
    assert os.listdir(tmp_path) == ["a.png"]


def test_never_replaces_unasked(tmp_path: Path) -> None:
    """An existing file survives, and the error names both ways out."""
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already") as caught:
        write_whole(path, b"new")
    assert "--force" in caught.value.fix
    assert path.read_bytes() == b"precious"
    assert write_whole(path, b"new", force=True).read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step fails where another program was faster, even after the check passed."""
    path = tmp_path / "a.png"
    monkeypatch.setattr("lambdiff.files.check_free", lambda *_args, **_more: path.write_bytes(b"theirs"))
    with pytest.raises(OutputError, match="exists already"):
        write_whole(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("force", [False, True])
def test_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    """On a file system without hard links the file is written all the same."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert write_whole(tmp_path / "a.png", b"x", force=force).read_bytes() == b"x"


def test_a_full_disk_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system refuses in the middle, no half-written file stays and the reason is told."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_whole(tmp_path / "a.png", b"x" * 1000)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "message"), [("no/such/a.png", "does not exist"), (".", "is a folder")])
def test_impossible_places(tmp_path: Path, name: str, message: str) -> None:
    """A missing folder and a folder's own name are refused in words."""
    with pytest.raises(OutputError, match=message):
        write_whole(tmp_path / name, b"x")


def test_a_process_that_is_killed_while_writing_leaves_no_picture(tmp_path: Path) -> None:
    """After SIGKILL in the middle of the writing the name is still free: a half-written file is never seen under it."""
    path = tmp_path / "a.png"
    code = (
        "import os, pathlib, signal\nfrom lambdiff.files import write_whole\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_whole(pathlib.Path({str(path)!r}), b'x' * 1_000_000)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not path.exists()
    assert write_whole(path, b"again").read_bytes() == b"again"


@pytest.mark.linux
def test_a_read_only_folder_is_named() -> None:
    """Where nobody may write, not even root, the folder is named."""
    with pytest.raises(OutputError, match="/sys"):
        write_whole(Path("/sys/a.png"), b"x")
