"""Fixtures for the tests of `lambdiff.bake`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support import tiny_pipeline


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that bake: making their source takes torch."""
    if "source" in getattr(item, "fixturenames", ()):
        item.add_marker("engine")


@pytest.fixture
def source(tmp_path):
    """A copy of the tiny pipeline that a test may change."""
    return Path(shutil.copytree(tiny_pipeline.folder(), tmp_path / "source"))
