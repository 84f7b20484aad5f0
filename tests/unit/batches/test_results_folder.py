"""The folder of a batch: its images, its lines, and who makes what."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lambdiff.batches.items import ItemReader
from lambdiff.batches.key_locks import KeyLocks
from lambdiff.batches.results_folder import RESULTS, ResultLine, ResultsFolder, RowError
from lambdiff.errors import EndpointFailed, OutputError
from unit.batches.test_items import health

KEY = "ab" * 32


@pytest.fixture
def item():
    """An item with a column of its own."""
    return next(ItemReader([{"prompt": "a cat", "seed": 7, "id": "c1", "file": "x"}], health()).items())


@pytest.fixture
def folder(tmp_path):
    """An open folder."""
    opened = ResultsFolder(tmp_path / "out")
    yield opened
    opened.close()


def test_an_image_is_found_by_its_key(folder, item, tmp_path):
    """What a run has made, another one finds, also under the name that another file of prompts gave it."""
    assert folder.find(item) is None
    name = folder.write_image(item, b"image")
    assert name == f"000001-{item.key[:12]}.png"
    folder.append(ResultLine.of(item, file=name, seconds=1.0))
    (folder.path / name).rename(folder.path / "renamed.png")
    assert folder.find(item) is None
    folder.append(ResultLine.of(item, file="renamed.png"))
    assert folder.find(item) == "renamed.png"
    assert folder.is_listed(item)


def test_an_image_without_a_line_is_found(folder, item):
    """A process may be killed after it has written an image, and before it has written its line."""
    folder.write_image(item, b"image")
    assert folder.find(item) is not None
    assert not folder.is_listed(item)


def test_an_incomplete_line_is_removed(folder, item):
    """What a killed process has left at the end of the file does not damage the next line."""
    folder.append(ResultLine.of(item, file="1.png"))
    with (folder.path / RESULTS).open("ab") as stream:
        stream.write(b'{"number": 2, "li')
    assert [line.file for line in folder.lines()] == ["1.png"]
    folder.append(ResultLine.of(item, file="2.png"))
    assert [line.file for line in folder.lines()] == ["1.png", "2.png"]


def test_what_a_killed_process_left_of_an_image_is_removed(folder, item):
    """A temporary file stays until its image is made: until then, another process might be writing it."""
    leftover = folder.path / f".{folder.name(item)}.0123456789ab.part"
    leftover.write_bytes(b"half")
    other = folder.path / ".000009-0123456789ab.png.0123456789ab.part"
    other.write_bytes(b"half")
    folder.close()
    again = ResultsFolder(folder.path)
    again.write_image(item, b"image")
    again.close()
    assert not leftover.exists()
    assert other.exists()


def test_a_later_line_replaces_a_failure(folder, item):
    """A failure that a later run has repaired is not among the latest results."""
    error = EndpointFailed("It failed.", fix="Try again.")
    folder.append(ResultLine.of(item, file=None, error=RowError.of(error)))
    assert [line.error.message for line in folder.latest()] == ["It failed."]
    folder.append(ResultLine.of(item, file="1.png"))
    assert [line.error for line in folder.latest()] == [None]


def test_records_are_flat(item):
    """Parameters and other columns become keys; a column never hides one of ours."""
    record = ResultLine.of(item, file="1.png", seconds=1.5).record()
    assert (record["prompt"], record["seed"], record["id"], record["seconds"]) == ("a cat", 7, "c1", 1.5)
    assert (record["file"], record["_file"], record["error"]) == ("1.png", "x", None)


def test_a_foreign_file_is_not_changed(folder, item):
    """A `results.jsonl` of another program is named."""
    folder.close()
    (folder.path / RESULTS).write_text("hello\n")
    with pytest.raises(OutputError, match="that lambdiff has not written"):
        ResultsFolder(folder.path)
    assert (folder.path / RESULTS).read_text() == "hello\n"


def test_a_folder_is_open_once_in_a_process(folder, tmp_path):
    """Two batches of one process need two folders; afterwards, it can be opened again."""
    with pytest.raises(OutputError, match="Another batch of this program"):
        ResultsFolder(tmp_path / "out")
    folder.close()
    ResultsFolder(tmp_path / "out").close()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    """A file in its place, and a missing parent, are output errors."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "missing" / "out"):
        with pytest.raises(OutputError):
            ResultsFolder(path)


def held_elsewhere(path, key):
    """Return whether another process gets the lock of a key."""
    code = (
        "import sys; from pathlib import Path; from lambdiff.batches.key_locks import KeyLocks; "
        "print(KeyLocks(Path(sys.argv[1])).acquire(sys.argv[2]))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path), key], capture_output=True, text=True, check=True)
    return ran.stdout.strip() == "False"


@pytest.mark.slow
def test_a_lock_excludes_other_processes_until_it_is_released(tmp_path):
    """A key is locked for others, other keys are not, and closing the file releases all."""
    path = tmp_path / "locks"
    locks = KeyLocks(path)
    assert locks.acquire(KEY)
    assert not locks.acquire(KEY)
    assert held_elsewhere(path, KEY)
    assert not held_elsewhere(path, "cd" * 32)
    locks.release(KEY)
    assert not held_elsewhere(path, KEY)
    assert locks.acquire(KEY)
    locks.close()
    assert not held_elsewhere(path, KEY)
