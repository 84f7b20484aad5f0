"""Reading ahead of a start."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lambdiff.handler import prefetch


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What threads die of."""
    found: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: found.append(arguments.exc_value))
    return found


def finish(threads: list[threading.Thread]) -> None:
    """Wait for the readers."""
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def cached(path: Path) -> bool:
    """Whether all of a file can be read without waiting for a device."""
    with path.open("rb", buffering=0) as stream:
        try:
            return all(
                os.preadv(stream.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT)
                for offset in range(0, path.stat().st_size, 4096)
            )
        except BlockingIOError:
            return False


@pytest.mark.linux
def test_every_file_is_in_the_page_cache_afterwards(tmp_path: Path, broken: list[BaseException | None]) -> None:
    """Files larger and smaller than a piece, in subfolders too."""
    files = [tmp_path / "unet.bin", tmp_path / "tokenizer.json", tmp_path / "unet" / "weights"]
    files[2].parent.mkdir()
    for path, size in zip(files, (2 * prefetch.PIECE + 5, 10, 100_000), strict=True):
        path.write_bytes(bytes(size))
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached(files[0]):
        pytest.skip("this file system keeps everything in memory")
    finish(prefetch.begin(tmp_path))
    assert [cached(path) for path in files] == [True, True, True]
    assert broken == []


def test_it_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: list[BaseException | None]) -> None:
    """No folder, a file that is gone, a kernel that refuses, no threads left: the start goes on without."""
    finish(prefetch.begin(tmp_path / "nowhere"))
    gone, kept = tmp_path / "gone", tmp_path / "kept"
    kept.write_bytes(b"x")
    monkeypatch.setattr(prefetch, "_files", lambda _: iter([gone, kept]))
    finish(prefetch.begin(tmp_path))

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "sendfile", refuse)
    finish(prefetch.begin(tmp_path))
    assert broken == []

    def exhausted(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", exhausted)
    prefetch.begin(tmp_path)


def test_the_libraries_named_are_those_of_the_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that moves its compiled code would be read no longer, without any sign."""
    import numpy

    monkeypatch.setattr(prefetch, "PACKAGES", Path(numpy.__file__).parents[1])
    found = [path.name for path in prefetch._files(Path("/nonexistent"))]
    for name in ("_multiarray_umath", "tokenizers", "_pyopenvino", "intel_cpu_plugin", "_imaging"):
        assert any(name in path for path in found), name
