"""The folder of the default model (local/builtin.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambdiff.local import builtin


def test_the_environment_overrides_the_built_in_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAMBDIFF_MODEL_DIR selects a folder other than the built-in model's."""
    assert builtin.default_model_dir().name == "builtin_model"
    monkeypatch.setenv("LAMBDIFF_MODEL_DIR", str(tmp_path))
    assert builtin.default_model_dir() == tmp_path
