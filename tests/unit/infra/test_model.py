"""Which folder a deployment's model is."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from lambdiff import config
from lambdiff.bake import bake, catalogue
from lambdiff.bake.provenance import BAKED_BY
from lambdiff.engine import manifest as manifests
from lambdiff.errors import ToolchainError
from lambdiff.infra import model, toolchain
from lambdiff.local import builtin


def test_built_in_is_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAMBDIFF_MODEL_DIR is about this process, not about what is deployed."""
    monkeypatch.setenv("LAMBDIFF_MODEL_DIR", str(tmp_path))
    assert model.model_folder(model.BUILT_IN, "openvino") == builtin.builtin_model_dir()
    assert builtin.folder() == tmp_path


def baked_by(maker: str) -> Path:
    """Where tiny-sd is looked for, with a model that somebody baked."""
    entry = catalogue.get("tiny-sd")
    folder = shutil.copytree(
        builtin.builtin_model_dir(), config.home() / "models" / f"{entry.name}-{entry.revision[:12]}-openvino"
    )
    manifest = msgspec.structs.replace(manifests.read(folder), baked_by=maker)
    (folder / manifests.FILENAME).write_bytes(manifest.to_json())
    return folder


def test_what_another_version_baked_serves() -> None:
    """Baking takes torch and minutes, so it is the person who decides; how to is said."""
    folder = baked_by("lambdiff 0.0.9")
    said: list[str] = []
    assert model.model_folder("tiny-sd", "openvino", say=said.append) == folder
    assert "baked by lambdiff 0.0.9" in said[-1]
    assert f"remove {folder}" in said[-1]


@pytest.mark.parametrize("lost", ["unet.bin", manifests.FILENAME])
def test_a_damaged_model_is_baked_again(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is lambdiff's own, so nobody has to remove it first."""
    folder = baked_by(BAKED_BY)
    (folder / lost).unlink()
    made: list[tuple[Path, bool]] = []
    monkeypatch.setattr(toolchain, "container_engine", lambda: None)
    monkeypatch.setattr(bake, "bake", lambda _, out, **__: made.append((out, out.exists())))
    assert model.model_folder("tiny-sd", "openvino") == folder
    assert made == [(folder, False)]


def test_a_license_is_shown_even_if_nothing_is_baked() -> None:
    """Name, license and its address, off a terminal too, each time."""
    entry = catalogue.get("tiny-sd")
    baked = baked_by(BAKED_BY)
    said: list[str] = []
    assert model.model_folder("tiny-sd", "openvino", say=said.append) == baked
    assert said == [f"{entry.hub_id} has the license {entry.license}: {entry.license_url}"]


def test_nothing_is_baked_that_cannot_be_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Baking takes minutes; that no container engine answers is known in a second."""
    baked: list[str] = []

    def missing() -> toolchain.Tool:
        raise ToolchainError("none", fix="install one")

    monkeypatch.setattr(toolchain, "container_engine", missing)
    monkeypatch.setattr(bake, "bake", lambda source, *_, **__: baked.append(source))
    with pytest.raises(ToolchainError):
        model.model_folder("tiny-sd", "openvino")
    assert not baked
