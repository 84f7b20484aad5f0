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
from lambdiff.engine.manifest import Manifest, Memory
from lambdiff.errors import InvalidRequest, ToolchainError
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


def needing(bf16_mb: int, f32_mb: int) -> Manifest:
    """Return the built-in model's manifest with another estimate of its memory."""
    manifest = manifests.read(builtin.builtin_model_dir())
    return msgspec.structs.replace(manifest, memory=Memory(bf16_mb=bf16_mb, f32_mb=f32_mb))


def test_models_that_fit_are_not_mentioned() -> None:
    """There is nothing to say if the model fits with either arithmetic, or if nothing is known."""
    assert model.check_memory(needing(2000, 3008), 3008, force=False) == []
    unknown = msgspec.structs.replace(needing(1, 1), memory=None)
    assert model.check_memory(unknown, 128, force=False) == []


def test_a_model_that_needs_bf16_is_a_note() -> None:
    """A model that fits only with bf16 can be deployed, and the note says what happens elsewhere."""
    (note,) = model.check_memory(needing(6000, 11_000), 10_240, force=False)
    assert "needs about 11,000 MB" in note
    assert "10,240 MB; requests would fail there" in note


@pytest.mark.parametrize(
    ("needed", "memory_mb", "message"),
    [(6000, 4096, "must be about 6,000 or more for .*, not 4,096"), (12_000, 10_240, "can be at most 10,240, and")],
)
def test_a_model_that_does_not_fit_is_refused(needed: int, memory_mb: int, message: str) -> None:
    """It is refused before AWS is changed; with `force` it is a note, since the need is an estimate."""
    with pytest.raises(InvalidRequest, match=message) as caught:
        model.check_memory(needing(needed, 2 * needed), memory_mb, force=False)
    assert [name for name, _ in caught.value.problems] == ["memory_mb"]
    assert len(model.check_memory(needing(needed, 2 * needed), memory_mb, force=True)) == 1
