"""Mapped weights, and their memory."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from lambdiff.handler.engine.weights import Weights


@pytest.fixture
def path(tmp_path):
    """A file of 4 MB."""
    path = tmp_path / "unet.bin"
    path.with_suffix(".xml").write_text("<net/>", encoding="utf-8")
    path.write_bytes(np.arange(2**20, dtype=np.uint32).tobytes())
    return path


def resident(path: Path) -> int:
    """Bytes of a file that this process has in memory."""
    size, found = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            found = line.endswith(str(path))
        elif found and line.startswith("Rss:"):
            size += int(line.split()[1]) * 1024
    return size


def test_the_tensor_is_the_file(path):
    """Byte for byte, and read only when it is looked at."""
    weights = Weights(path)
    assert weights.tensor.data.tobytes() == path.read_bytes()
    assert weights.description == "<net/>"


@pytest.mark.linux
def test_memory_is_given_back_and_the_weights_stay(path):
    """The process no longer holds the pages, and finds the same in them when it reads again."""
    weights = Weights(path)
    assert resident(path) == 0
    before = weights.tensor.data.sum()
    assert resident(path) == 2**22
    weights.give_back()
    assert resident(path) == 0
    assert weights.tensor.data.sum() == before


def test_where_memory_cannot_be_given_back(path, monkeypatch):
    """Nothing happens on systems that have no such call."""
    monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    Weights(path).give_back()
