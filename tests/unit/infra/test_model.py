"""Choosing the model folder to deploy (infra/model.py)."""

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


def test_the_built_in_model_ignores_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAMBDIFF_MODEL_DIR applies to local generation and not to deployments."""
    monkeypatch.setenv("LAMBDIFF_MODEL_DIR", str(tmp_path))
    assert model.model_folder(model.BUILT_IN, "openvino") == builtin.builtin_model_dir()
    assert builtin.default_model_dir() == tmp_path


def baked_by(version: str) -> Path:
    """Create and return the folder of tiny-sd, with a model baked by the given version."""
    entry = catalogue.get("tiny-sd")
    folder = shutil.copytree(
        builtin.builtin_model_dir(), config.home() / "models" / f"{entry.name}-{entry.revision[:12]}-openvino"
    )
    manifest = msgspec.structs.replace(manifests.read(folder), baked_by=version)
    (folder / manifests.FILENAME).write_bytes(manifest.to_json())
    return folder


def test_a_model_of_another_version_is_used() -> None:
    """A model baked by another version is used, and a message says how to bake it again."""
    folder = baked_by("lambdiff 0.0.9")
    messages: list[str] = []
    assert model.model_folder("tiny-sd", "openvino", say=messages.append) == folder
    assert "baked by lambdiff 0.0.9" in messages[-1]
    assert f"remove {folder}" in messages[-1]


@pytest.mark.parametrize("lost", ["unet.bin", manifests.FILENAME])
def test_a_damaged_model_is_baked_again(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged model in lambdiff's own folder is removed and baked again."""
    folder = baked_by(BAKED_BY)
    (folder / lost).unlink()
    baked: list[tuple[Path, bool]] = []
    monkeypatch.setattr(toolchain, "container_engine", lambda: None)
    monkeypatch.setattr(bake, "bake", lambda _, out, **__: baked.append((out, out.exists())))
    assert model.model_folder("tiny-sd", "openvino") == folder
    assert baked == [(folder, False)]


def test_the_license_is_always_shown() -> None:
    """The model's license is shown even if the model has been baked before."""
    entry = catalogue.get("tiny-sd")
    baked = baked_by(BAKED_BY)
    messages: list[str] = []
    assert model.model_folder("tiny-sd", "openvino", say=messages.append) == baked
    assert messages == [f"{entry.hub_id} has the license {entry.license}: {entry.license_url}"]


def test_what_may_fail_is_checked_before_a_bake(monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is nothing to build the image with, nothing is baked."""
    baked: list[str] = []

    def missing() -> None:
        raise ToolchainError("none", fix="install one")

    monkeypatch.setattr(bake, "bake", lambda source, *_, **__: baked.append(source))
    with pytest.raises(ToolchainError):
        model.model_folder("tiny-sd", "openvino", before_bake=missing)
    assert not baked
