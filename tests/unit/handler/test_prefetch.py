"""Prefetching files at a cold start (handler/prefetch.py)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lambdiff.handler import prefetch


@pytest.fixture
def thread_errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """The uncaught exceptions of threads."""
    errors: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: errors.append(arguments.exc_value))
    return errors


def finish(threads: list[threading.Thread]) -> None:
    """Wait for the threads to end."""
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def cached(path: Path) -> bool:
    """Return whether the whole file is in the page cache."""
    with path.open("rb", buffering=0) as stream:
        try:
            return all(
                os.preadv(stream.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT)
                for offset in range(0, path.stat().st_size, 4096)
            )
        except BlockingIOError:
            return False


@pytest.mark.linux
def test_every_file_is_in_the_page_cache_afterwards(tmp_path: Path, thread_errors: list[BaseException | None]) -> None:
    """Files larger and smaller than a chunk, and files in subfolders, are read into the page cache."""
    files = [tmp_path / "unet.bin", tmp_path / "tokenizer.json", tmp_path / "unet" / "weights"]
    files[2].parent.mkdir()
    for path, size in zip(files, (2 * prefetch.CHUNK + 5, 10, 100_000), strict=True):
        path.write_bytes(bytes(size))
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert not cached(files[0]), f"{tmp_path} is kept in memory (tmpfs); pass --basetemp with a folder on a disk"
    finish(prefetch.start(tmp_path))
    assert [cached(path) for path in files] == [True, True, True]
    assert thread_errors == []


def test_prefetching_never_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread_errors: list[BaseException | None]
) -> None:
    """Neither a missing folder or file, nor a failing system call, nor a lack of threads raises an exception."""
    finish(prefetch.start(tmp_path / "missing"))
    gone, kept = tmp_path / "gone", tmp_path / "kept"
    kept.write_bytes(b"x")
    monkeypatch.setattr(prefetch, "_files", lambda _: iter([gone, kept]))
    finish(prefetch.start(tmp_path))

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "sendfile", refuse)
    finish(prefetch.start(tmp_path))
    assert thread_errors == []

    def exhausted(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", exhausted)
    prefetch.start(tmp_path)


def test_the_libraries_exist_in_the_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefetched libraries exist in the installed packages, so a package that moves them is noticed."""
    import numpy

    monkeypatch.setattr(prefetch, "PACKAGES", Path(numpy.__file__).parents[1])
    names = [path.name for path in prefetch._files(Path("/nonexistent"))]
    for name in ("_multiarray_umath", "tokenizers", "_pyopenvino", "intel_cpu_plugin", "_imaging"):
        assert any(name in each for each in names), name
