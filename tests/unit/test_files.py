"""Atomic writes: a file is written completely or not at all (files.py)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lambdiff.errors import OutputError
from lambdiff.files import write_atomically


def test_the_bytes_are_written_and_nothing_else_remains(tmp_path: Path) -> None:
    """The folder contains only the file, with the given bytes."""
    assert write_atomically(tmp_path / "a.png", b"bytes").read_bytes() == b"bytes"
    assert os.listdir(tmp_path) == ["a.png"]


def test_no_file_is_replaced_without_force(tmp_path: Path) -> None:
    """An existing file is kept, and the fix offers another name and `force=True`."""
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="already exists") as caught:
        write_atomically(path, b"new")
    assert "another name" in caught.value.fix
    assert "`force=True`" in caught.value.fix
    assert path.read_bytes() == b"precious"
    assert write_atomically(path, b"new", force=True).read_bytes() == b"new"


def test_a_file_created_after_the_check_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another program creates the file after the check, the write fails and the file is kept."""
    path = tmp_path / "a.png"
    monkeypatch.setattr("lambdiff.files.check_writable", lambda *_args, **_more: path.write_bytes(b"theirs"))
    with pytest.raises(OutputError, match="already exists"):
        write_atomically(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("force", [False, True])
def test_hard_links_are_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    """Files are written even on a file system without hard links."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert write_atomically(tmp_path / "a.png", b"x", force=force).read_bytes() == b"x"


def test_a_full_disk_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system fails halfway, no partial file remains and the error gives the reason."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_atomically(tmp_path / "a.png", b"x" * 1000)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "message"), [("no/such/a.png", "does not exist"), (".", "is a folder")])
def test_impossible_paths_are_refused(tmp_path: Path, name: str, message: str) -> None:
    """A path in a missing folder and a path that is a folder are refused."""
    with pytest.raises(OutputError, match=message):
        write_atomically(tmp_path / name, b"x")


def test_a_process_killed_while_writing_leaves_no_file(tmp_path: Path) -> None:
    """If the process is killed in the middle of a write, no file with that name exists, and it can be written again."""
    path = tmp_path / "a.png"
    code = (
        "import os, pathlib, signal\nfrom lambdiff.files import write_atomically\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_atomically(pathlib.Path({str(path)!r}), b'x' * 1_000_000)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not path.exists()
    assert write_atomically(path, b"again").read_bytes() == b"again"


@pytest.mark.linux
def test_a_read_only_folder_is_named() -> None:
    """The error names a folder to which not even root can write."""
    with pytest.raises(OutputError, match="/sys"):
        write_atomically(Path("/sys/a.png"), b"x")
