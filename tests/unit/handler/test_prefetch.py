"""Prefetching before a cold start."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lambdiff.handler import prefetch


@pytest.fixture
def thread_errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """The exceptions that end threads."""
    errors: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: errors.append(arguments.exc_value))
    return errors


def finish(threads: list[threading.Thread]) -> None:
    """Wait for the reading threads."""
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def cached(path: Path) -> bool:
    """Whether the whole file can be read without waiting for a device."""
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
    """That holds for files larger and smaller than a chunk, and for subfolders."""
    files = [tmp_path / "unet.bin", tmp_path / "tokenizer.json", tmp_path / "unet" / "weights"]
    files[2].parent.mkdir()
    for path, size in zip(files, (2 * prefetch.CHUNK + 5, 10, 100_000), strict=True):
        path.write_bytes(bytes(size))
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached(files[0]):
        pytest.skip("this file system keeps everything in memory")
    finish(prefetch.start(tmp_path))
    assert [cached(path) for path in files] == [True, True, True]
    assert thread_errors == []


def test_it_never_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread_errors: list[BaseException | None]
) -> None:
    """A missing folder or file, a refusing kernel and exhausted threads do not stop the function from starting."""
    finish(prefetch.start(tmp_path / "nowhere"))
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
    """Otherwise a package that moves its libraries would silently not be prefetched any more."""
    import numpy

    monkeypatch.setattr(prefetch, "PACKAGES", Path(numpy.__file__).parents[1])
    names = [path.name for path in prefetch._files(Path("/nonexistent"))]
    for name in ("_multiarray_umath", "tokenizers", "_pyopenvino", "intel_cpu_plugin", "_imaging"):
        assert any(name in each for each in names), name
