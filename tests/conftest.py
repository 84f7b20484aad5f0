"""What every test gets: an environment without anybody's AWS account or lambdiff settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Remove AWS_* and LAMBDIFF_* and keep all state under the test's own folder."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "LAMBDIFF_")):
            monkeypatch.delenv(name)
    home = tmp_path / "lambdiff-home"
    monkeypatch.setenv("LAMBDIFF_HOME", str(home))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield home
