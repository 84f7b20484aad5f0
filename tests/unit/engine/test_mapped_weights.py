"""Memory-mapped weights and releasing their pages (engine/mapped_weights.py)."""

from __future__ import annotations

import mmap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lambdiff.engine.mapped_weights import MappedWeights
from support.smaps import mapped

pytestmark = pytest.mark.engine


@pytest.fixture
def path(tmp_path):
    """A weights file of 4 MiB with its description."""
    path = tmp_path / "unet.bin"
    path.with_suffix(".xml").write_text("<net/>", encoding="utf-8")
    path.write_bytes(np.arange(2**20, dtype=np.uint32).tobytes())
    return path


def resident(path: Path) -> int | None:
    """Return the bytes of a mapped file that are resident in this process."""
    return mapped(path, "Rss")


def test_the_tensor_is_the_file(path):
    """The tensor contains the file's bytes, and the description comes from the file next to it."""
    weights = MappedWeights(path)
    assert weights.tensor.data.tobytes() == path.read_bytes()
    assert weights.description == "<net/>"


@pytest.mark.linux
def test_pages_are_released_and_can_be_read_again(path):
    """Pages are released while the block runs and at its end, and reading them again gives the same weights."""
    weights = MappedWeights(path)
    assert resident(path) == 0
    with weights.releasing_pages():
        before = weights.tensor.data.sum()
        deadline = time.monotonic() + 10
        while resident(path):
            assert time.monotonic() < deadline
        assert weights.tensor.data.sum() == before
    assert resident(path) == 0
    assert weights.tensor.data.sum() == before
    assert resident(path) == 2**22


@pytest.mark.linux
def test_pages_are_released_after_an_error(path):
    """If the block fails, no pages stay in memory and no thread keeps running."""
    weights = MappedWeights(path)
    threads = threading.active_count()

    @weights.releasing_pages()
    def fail():
        weights.tensor.data.sum()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert resident(path) == 0
    assert threading.active_count() == threads


def test_without_madvise_nothing_is_released(path, monkeypatch):
    """On a system without `MADV_DONTNEED`, no pages are released, and the weights can be read as usual."""
    monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    weights = MappedWeights(path)
    with weights.releasing_pages():
        assert weights.tensor.data.tobytes() == path.read_bytes()
