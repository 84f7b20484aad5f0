"""Mapped weights, and their memory."""

from __future__ import annotations

import mmap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lambdiff.engine.mapped_weights import Weights
from support.smaps import mapped

pytestmark = pytest.mark.engine


@pytest.fixture
def path(tmp_path):
    """A file of 4 MB."""
    path = tmp_path / "unet.bin"
    path.with_suffix(".xml").write_text("<net/>", encoding="utf-8")
    path.write_bytes(np.arange(2**20, dtype=np.uint32).tobytes())
    return path


def resident(path: Path) -> int | None:
    """Bytes of a file that this process has in memory."""
    return mapped(path, "Rss")


def test_the_tensor_is_the_file(path):
    """Byte for byte, and read only when it is looked at."""
    weights = Weights(path)
    assert weights.tensor.data.tobytes() == path.read_bytes()
    assert weights.description == "<net/>"


@pytest.mark.linux
def test_memory_is_released_and_the_weights_stay(path):
    """The process no longer holds the pages, neither while they are read nor then, and finds the same in them again."""
    weights = Weights(path)
    assert resident(path) == 0
    with weights.released():
        before = weights.tensor.data.sum()
        give_up = time.monotonic() + 10
        while resident(path):
            assert time.monotonic() < give_up
        assert weights.tensor.data.sum() == before
    assert resident(path) == 0
    assert weights.tensor.data.sum() == before
    assert resident(path) == 2**22


@pytest.mark.linux
def test_memory_is_released_after_an_error(path):
    """What could not be compiled does not stay in memory, and no thread does."""
    weights = Weights(path)
    threads = threading.active_count()

    @weights.released()
    def fail():
        weights.tensor.data.sum()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert resident(path) == 0
    assert threading.active_count() == threads


def test_where_memory_cannot_be_released(path, monkeypatch):
    """Nothing happens on systems that have no such call."""
    monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    weights = Weights(path)
    with weights.released():
        assert weights.tensor.data.tobytes() == path.read_bytes()
