"""Atomic writes: a file is written completely or not at all (files.py)."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lambdiff.bake.output_folder import check_destination, scratch_folder
from lambdiff.errors import OutputError
from lambdiff.files import check_writable, explain, is_device_name, write_atomically, write_to_free_path


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
    monkeypatch.setattr("lambdiff.files._check_name", lambda *_args, **_more: path.write_bytes(b"theirs"))
    with pytest.raises(OutputError, match="already exists"):
        write_atomically(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("force", [False, True])
def test_hard_links_are_not_needed(tmp_path: Path, no_links: None, force: bool) -> None:
    """Files are written even on a file system without hard links, and none is replaced without `force`."""
    path = write_atomically(tmp_path / "a.png", b"x", force=force)
    assert path.read_bytes() == b"x"
    names = iter([path, tmp_path / "b.png"])
    assert write_to_free_path(names, b"y").name == "b.png"
    assert path.read_bytes() == b"x"
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


def test_a_full_disk_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system fails halfway, no partial file remains and the error gives the reason."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_atomically(tmp_path / "a.png", b"x" * 1000)
    assert os.listdir(tmp_path) == []


IMPOSSIBLE = [
    ("no/such/a.png", "does not exist"),
    (".", "is a folder"),
    ("folder", "is a folder"),
    ("file/a.png", "is not a folder"),
    ("file/b/a.png", "Not a directory"),
    ("dangling.png", "link to a file that does not exist"),
    ("loop/a.png", "is not a folder"),
    ("loop/b/a.png", "symbolic links"),
    ("loop", "link to a file that does not exist"),
    ("x" * 300 + ".png", "too long"),
    ("é" * 126 + ".png", "too long"),
    (f"{'x' * 300}/a.png", "too long"),
    ("a\0b.png", "not a possible name"),
    ("\ud800.png", "not a possible name"),
]


def bake_into(folder: Path) -> None:
    """Do what `bake` does with its output folder, without baking."""
    check_destination(folder, force=False)
    with scratch_folder(folder):
        pass


@pytest.mark.parametrize(("name", "message"), IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
def test_impossible_paths_are_refused_before_and_while_writing(tmp_path: Path, name: str, message: str) -> None:
    """What cannot be written is refused by the check, so that no image is paid for, and by the write."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OutputError, match=message) as caught:
        check_writable([tmp_path / name], force=False)
    assert caught.value.fix
    with pytest.raises(OutputError, match=message):
        write_atomically(tmp_path / name, b"x")
    if name != "no/such/a.png":  # bake creates missing folders
        with pytest.raises(OutputError):
            bake_into(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_link_is_replaced_only_with_force(tmp_path: Path) -> None:
    """With `force` a link that leads nowhere is replaced by the file."""
    path = tmp_path / "dangling.png"
    path.symlink_to("nowhere")
    check_writable([path], force=True)
    assert write_atomically(path, b"x", force=True).read_bytes() == b"x"
    assert not path.is_symlink()


@pytest.mark.linux
def test_folders_without_permissions_are_refused() -> None:
    """A user who may not search or write a folder gets the reason, for files and for baked models."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "closed").mkdir(mode=0o700 if os.getuid() == 0 else 0)
        (root / "read-only").mkdir(mode=0o555)
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:  # because a process cannot take its permissions back
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            for folder in ("closed", "closed/inner", "read-only"):
                path = root / folder / "a.png"
                for write in (
                    lambda p: check_writable([p], force=False),
                    lambda p: write_atomically(p, b"x"),
                    bake_into,
                ):
                    try:
                        write(path)
                    except OutputError as error:
                        os.write(writing, f"{error.message}\n".encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            messages = pipe.read().splitlines()
        assert os.waitpid(child, 0)[1] == 0
    assert len(messages) == 9
    assert all(message.endswith("cannot be written: Permission denied.") for message in messages)


@pytest.mark.linux
def test_a_full_or_read_only_file_system_is_found_before_anything_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check writes a small file, because permissions do not tell whether there is space."""
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable([Path("/sys/a.png")], force=False)
    real = tempfile.TemporaryFile

    def full(**options: Any) -> Any:
        stream = real(**options)
        os.dup2(os.open("/dev/full", os.O_WRONLY), stream.fileno())
        return stream

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        check_writable([tmp_path / "a.png"], force=False)
    assert "space" in caught.value.fix
    assert os.listdir(tmp_path) == []


def test_only_errors_of_the_file_system_are_explained() -> None:
    """A full disk is explained wherever it strikes; a missing file or a refused port is not a matter of the disk."""
    for error, message in (
        (OSError(errno.ENOSPC, "No space left on device"), "A file cannot be written: No space left"),
        (OSError(errno.EROFS, "Read-only file system", "cdk.log"), "cdk.log cannot be written: Read-only"),
        (OSError(errno.EACCES, "Permission denied", "cdk.log"), "cdk.log cannot be written: Permission denied"),
    ):
        explained = explain(error)
        assert explained is not None
        assert explained.message.startswith(message)
    assert explain(OSError(errno.EACCES, "Permission denied")) is None
    assert explain(OSError(errno.ENOENT, "No such file", "x")) is None


def test_each_writer_gets_its_own_name(tmp_path: Path) -> None:
    """Sixteen writers that start with the same names keep sixteen files."""

    def names() -> Iterator[Path]:
        return (tmp_path / f"cat-{number}.png" for number in itertools.count(1))

    with ThreadPoolExecutor(16) as pool:
        contents = [f"{number}".encode() for number in range(16)]
        paths = list(pool.map(lambda content: write_to_free_path(names(), content), contents))
    assert len(set(paths)) == 16
    assert [path.read_bytes() for path in paths] == contents
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in paths)


@pytest.mark.parametrize(
    "name", ["con", "NUL.png", "aux.txt.png", "com1.webp", "com¹.png", "lpt9", "prn .png", "CONIN$.png"]
)
def test_device_names_are_recognized(name: str) -> None:
    """Windows takes these names for devices."""
    assert is_device_name(name)
    assert not is_device_name(f"a{name}")


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
