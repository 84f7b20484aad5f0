"""The size-bounded folder of files that can be made again (local/cache_folder.py)."""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lambdiff.local.cache_folder import CacheFolder

LIMIT, TOTAL = 1000, 2500
CONTENT = bytes(range(200))
SIZE = len(CONTENT) + 32


@pytest.fixture
def folder(tmp_path: Path) -> CacheFolder:
    """A folder that exists."""
    folder = CacheFolder(tmp_path / "cache" / "things", group_limit=LIMIT, limit=TOTAL)
    assert folder.problem() is None
    return folder


def write(folder: CacheFolder, name: str, content: bytes = CONTENT, *, used: float | None = None) -> Path:
    """Write a file, last used `used` seconds ago, and return its path."""
    path = folder.root / name
    folder.write(path, io.BytesIO(content))
    if used is not None and path.exists():
        os.utime(path, (time.time() - used,) * 2)
    return path


def names(folder: CacheFolder) -> set[str]:
    """Return the files, relative to the folder."""
    return {path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*") if path.is_file()}


def test_what_is_written_can_be_read(folder: CacheFolder) -> None:
    """A file's content comes back in memory that can be written to; a file that does not exist gives None."""
    path = write(folder, "a/1")
    content = folder.read(path)
    assert content is not None
    assert content.tobytes() == CONTENT
    assert not content.readonly
    assert folder.read(folder.root / "a" / "2") is None
    assert folder.read(folder.root / "b" / "1") is None


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:20], id="shorter than a digest"),
        pytest.param(lambda data: data[:-1], id="truncated"),
        pytest.param(lambda data: data + b"\0", id="appended"),
        pytest.param(lambda data: b"\1" + data[1:], id="first byte"),
        pytest.param(lambda data: data[:100] + b"\0" + data[101:], id="a byte in the middle"),
        pytest.param(lambda data: data[:-1] + bytes([data[-1] ^ 1]), id="last bit"),
        pytest.param(lambda data: bytes(len(data)), id="zeros, as after a power failure"),
    ],
)
def test_a_damaged_file_is_ignored_and_removed(folder: CacheFolder, damage: object) -> None:
    """Whatever happened to a file, it is not used."""
    path = write(folder, "a/1")
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert folder.read(path) is None
    assert not path.exists()


@pytest.mark.linux
@pytest.mark.parametrize("mode", [0o602, 0o622, 0o666])
def test_a_file_that_others_can_write_is_not_used(folder: CacheFolder, mode: int) -> None:
    """A file that another user could have written is not read, even if its digest is right."""
    path = write(folder, "a/1")
    path.chmod(mode)
    assert folder.read(path) is None


@pytest.mark.linux
def test_a_file_of_another_user_is_not_used(folder: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and folders of another user, root excepted, are not used."""
    path = write(folder, "a/1")
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        os.chown(folder.root, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert folder.read(path) is None
    assert "belongs to another user" in (folder.problem() or "")


@pytest.mark.linux
def test_a_folder_that_others_can_change_is_a_problem(folder: CacheFolder) -> None:
    """The folder is private when it is created, and not used once it is not."""
    assert folder.root.stat().st_mode & 0o777 == 0o700
    folder.root.chmod(0o777)
    assert "can be changed by other users" in (folder.problem() or "")


@pytest.mark.linux
def test_a_link_or_a_file_instead_of_the_folder_is_a_problem(tmp_path: Path) -> None:
    """A link is not followed, neither to read nor to clear; a file is not replaced."""
    (tmp_path / "elsewhere" / "a").mkdir(parents=True)
    precious = tmp_path / "elsewhere" / "a" / "1"
    precious.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    linked = CacheFolder(tmp_path / "link", group_limit=LIMIT, limit=TOTAL)
    assert "is a link" in (linked.problem() or "")
    assert linked.clear() == 0
    assert precious.read_bytes() == b"precious"
    assert CacheFolder(precious, group_limit=LIMIT, limit=TOTAL).problem() is not None
    assert CacheFolder(precious / "below", group_limit=LIMIT, limit=TOTAL).problem() is not None


def test_the_group_limit_removes_what_was_used_least_recently(folder: CacheFolder) -> None:
    """A file that exceeds the limit of its group replaces the one that was not used for longest; others stay."""
    for age, name in enumerate(("a/1", "a/2", "a/3", "a/4")):
        write(folder, name, used=1000 - age)
    write(folder, "b/1", used=5000)
    folder.mark_used(folder.root / "a" / "1")
    write(folder, "a/5")
    assert names(folder) == {"a/1", "a/3", "a/4", "a/5", "b/1"}


def test_the_total_limit_removes_files_of_other_groups(folder: CacheFolder) -> None:
    """All files together stay within the limit, whichever group they belong to."""
    written = [f"{group}/{number}" for group in "abcde" for number in "12"]
    for age, name in enumerate(written):
        write(folder, name, used=1000 - age)
    write(folder, "f/1")
    assert names(folder) == {*written[1:], "f/1"}
    assert sum(group.size for group in folder.groups()) <= TOTAL


def test_a_file_that_cannot_fit_is_not_written(folder: CacheFolder) -> None:
    """A file larger than the limit is not written, nor one that needs the place of a file in use."""
    write(folder, "a/1", used=1000)
    write(folder, "a/2", bytes(LIMIT))
    assert names(folder) == {"a/1"}
    folder.write(folder.root / "a" / "3", io.BytesIO(bytes(LIMIT - SIZE)), keep={folder.root / "a" / "1"})
    assert names(folder) == {"a/1"}
    folder.write(folder.root / "a" / "3", io.BytesIO(bytes(LIMIT - SIZE)))
    assert names(folder) == {"a/3"}


def test_unfinished_files_are_removed_when_they_are_old(folder: CacheFolder) -> None:
    """A temporary file displaces nothing while its process may be running, and is removed later."""
    first = write(folder, "a/1")
    young, old = folder.root / "a" / ".2.x.part", folder.root / "a" / ".3.x.part"
    for path, age in ((young, 10), (old, 4000)):
        path.write_bytes(bytes(LIMIT))
        os.utime(path, (time.time() - age,) * 2)
    last = write(folder, "a/4")
    assert set(folder.paths(folder.root / "a")) == {first, last}
    assert young.exists()
    assert not old.exists()
    assert first.exists()
    assert last.exists()


def test_clear_removes_everything(folder: CacheFolder) -> None:
    """`clear` removes files, temporary ones included, and empty folders; it returns the bytes."""
    write(folder, "a/1")
    write(folder, "b/1")
    (folder.root / "b" / ".2.x.part").write_bytes(b"12345")
    assert [(group.name, group.files, group.size) for group in folder.groups()] == [("b", 2, SIZE + 5), ("a", 1, SIZE)]
    assert folder.clear() == 2 * SIZE + 5
    assert list(folder.root.iterdir()) == []
    assert folder.groups() == []


def test_a_folder_that_disappears_is_no_error(folder: CacheFolder) -> None:
    """Another process may remove the folder at any time."""
    path = write(folder, "a/1")
    folder.clear()
    folder.root.rmdir()
    assert folder.read(path) is None
    assert write(folder, "a/1").exists() is False
    assert folder.groups() == []
    assert folder.clear() == 0


@pytest.mark.linux
def test_a_full_disk_leaves_nothing_behind(folder: CacheFolder) -> None:
    """If a file cannot be written completely, nothing of it remains and no error is raised."""
    code = (
        "import io, resource, signal, sys\nfrom pathlib import Path\n"
        "from lambdiff.local.cache_folder import CacheFolder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "folder = CacheFolder(Path(sys.argv[1]), group_limit=1000, limit=1000)\n"
        "folder.write(folder.root / 'a' / '1', io.BytesIO(bytes(500)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder.root)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(folder) == set()


def _use(root: Path, number: int) -> int:
    """Write and read files that other processes write, read and remove; return how many were read."""
    folder = CacheFolder(root, group_limit=LIMIT, limit=TOTAL)
    read = 0
    for round_ in range(30):
        path = root / "a" / str((number + round_) % 6)
        folder.write(path, io.BytesIO(CONTENT))
        content = folder.read(path)
        assert content is None or content.tobytes() == CONTENT
        read += content is not None
        if round_ % 10 == number:
            folder.clear()
    return read


@pytest.mark.slow
def test_several_processes_can_use_it(folder: CacheFolder) -> None:
    """Processes that write, read, evict and clear the same files only ever read complete content."""
    # A forked process has the functions of this module, which a new one could not import.
    with multiprocessing.get_context("fork").Pool(3) as pool:
        read = pool.starmap(_use, [(folder.root, number) for number in range(3)])
    assert all(count > 5 for count in read)
    assert not [name for name in names(folder) if name.endswith(".part")]
