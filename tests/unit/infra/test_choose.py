"""Which folder a deployment's model is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambdiff.infra import choose
from lambdiff.local import builtin


def test_built_in_is_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAMBDIFF_MODEL_DIR is about this process, not about what is deployed."""
    monkeypatch.setenv("LAMBDIFF_MODEL_DIR", str(tmp_path))
    assert choose.model_folder(choose.BUILT_IN, "openvino") == builtin.shipped()
    assert builtin.folder() == tmp_path
