"""Temporary files and folders."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lambdiff import temporary
from lambdiff.temporary import temporary_path


def test_a_file_is_removed_when_the_block_ends(tmp_path: Path) -> None:
    """The file is gone after the block, also if the block raises."""

    def fail() -> None:
        with temporary_path(tmp_path, ".cat.", ".png") as path:
            path.write_text("half a cat")
            assert path.name.startswith(".cat.")
            assert path.suffix == ".png"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_folder_is_removed_with_its_content(tmp_path: Path) -> None:
    """A folder at the path is removed with everything in it."""
    with temporary_path(tmp_path, "model.") as path:
        (path / "unet").mkdir(parents=True)
        (path / "unet" / "weights").write_text("half of them")
    assert not list(tmp_path.iterdir())


def test_what_was_renamed_stays(tmp_path: Path) -> None:
    """A file that got its final name is kept."""
    with temporary_path(tmp_path, ".cat.") as path:
        path.write_text("a cat")
        path.rename(tmp_path / "cat.txt")
    assert [each.name for each in tmp_path.iterdir()] == ["cat.txt"]


def test_remove_all_removes_what_is_in_use(tmp_path: Path) -> None:
    """A program that ends inside of blocks leaves nothing."""
    with temporary_path(tmp_path, "a.") as file, temporary_path(tmp_path, "b.") as folder:
        file.write_text("a")
        folder.mkdir()
        temporary.remove_all()
        assert not list(tmp_path.iterdir())


def test_created_files_are_private_and_new(tmp_path: Path) -> None:
    """`create` opens a file that nobody else can read, and refuses one that exists."""
    path = tmp_path / "keys"
    with temporary.create(path) as file:
        file.write(b"\r\n")
    assert path.read_bytes() == b"\r\n"
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        temporary.create(path)


@pytest.mark.linux
def test_a_forked_child_leaves_its_parents_files(tmp_path: Path) -> None:
    """What the parent uses is not removed by a child that ends."""
    with temporary_path(tmp_path, "a.") as path:
        path.write_text("a")
        child = os.fork()
        if not child:
            temporary.remove_all()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert path.read_text() == "a"
