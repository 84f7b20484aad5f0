"""Which folder a deployment's model is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambdiff import bake, config, models
from lambdiff.errors import ToolchainError
from lambdiff.infra import choose, toolchain
from lambdiff.local import builtin


def test_built_in_is_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAMBDIFF_MODEL_DIR is about this process, not about what is deployed."""
    monkeypatch.setenv("LAMBDIFF_MODEL_DIR", str(tmp_path))
    assert choose.model_folder(choose.BUILT_IN, "openvino") == builtin.shipped()
    assert builtin.folder() == tmp_path


def test_a_licence_is_shown_even_if_nothing_is_baked() -> None:
    """Name, licence and its address, off a terminal too, each time."""
    entry = models.get("tiny-sd")
    baked = config.home() / "models" / f"{entry.name}-{entry.revision[:12]}-openvino"
    baked.mkdir(parents=True)
    said: list[str] = []
    assert choose.model_folder("tiny-sd", "openvino", say=said.append) == baked
    assert said == [f"{entry.hub_id} has the licence {entry.licence}: {entry.licence_url}"]


def test_nothing_is_baked_that_cannot_be_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Baking takes minutes; that no container engine answers is known in a second."""
    baked: list[str] = []

    def missing() -> toolchain.Tool:
        raise ToolchainError("none", fix="install one")

    monkeypatch.setattr(toolchain, "container_engine", missing)
    monkeypatch.setattr(bake, "bake", lambda source, *_, **__: baked.append(source))
    with pytest.raises(ToolchainError):
        choose.model_folder("tiny-sd", "openvino")
    assert not baked
