"""Shared by the tests of the cloud side: jsii needs a Node that it supports, and the wheel has one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lambdiff.infra import toolchain

# Before any test module imports aws_cdk: jsii starts Node at import.
os.environ["JSII_NODE"] = toolchain.node().command[0]


@pytest.fixture(scope="session")
def image_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build context that is small enough to be hashed in no time."""
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text("FROM scratch\n")
    return folder
