"""Baking a diffusers folder into a model folder (bake/bake.py)."""

from __future__ import annotations

import json

import pytest

from lambdiff.bake.bake import bake
from lambdiff.engine import manifest as manifests
from lambdiff.errors import ModelError, OutputError
from support import tiny_pipeline

pytestmark = pytest.mark.engine


def test_baking_for_openvino_gives_a_complete_folder():
    """The folder contains models, tokenizer and notice with correct hashes, and the manifest describes the source."""
    folder = tiny_pipeline.baked(precision="f32")
    manifest = manifests.verify(folder)
    assert {file.path for file in manifest.files} == {
        *(f"{part}.{kind}" for part in ("text_encoder", "unet", "decoder", "encoder") for kind in ("xml", "bin")),
        "tokenizer.json",
        "NOTICE.txt",
    }
    assert (manifest.engine, manifest.precision, manifest.license) == ("openvino", "f32", "MIT")
    assert (manifest.diffusion.beta_end, manifest.diffusion.timestep_spacing) == (0.012, "leading")
    assert (manifest.latents.channels, manifest.latents.factor) == (4, 4)
    assert (manifest.text.max_length, manifest.native_size) == (16, None)
    assert (manifest.defaults.width, manifest.defaults.scheduler) == (64, "pndm")
    assert "No safety checker is run" in manifest.notes


def test_baking_for_diffusers_copies_the_weights():
    """For the diffusers engine the weights are copied unchanged, and the safety checker is left out."""
    folder = tiny_pipeline.baked("diffusers")
    manifest = manifests.verify(folder)
    assert manifest.engine == "diffusers"
    for name in ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        assert (folder / name).read_bytes() == (tiny_pipeline.folder() / name).read_bytes()
    assert json.loads((folder / "model_index.json").read_text())["safety_checker"] == [None, None]


def test_the_callers_values_are_recorded(source, tmp_path):
    """The manifest contains the values that the caller gives, and the source's license file is copied."""
    (source / "LICENSE").write_text("free")
    out = tmp_path / "out"
    manifest = bake(
        source,
        out,
        engine="diffusers",
        name="mine",
        revision="7",
        license="MIT",
        origin=("there",),
        notes="Small.",
        vocabulary=("hat", "cat"),
        native_size=(64, 64),
        defaults={"num_inference_steps": 8, "width": 256, "height": 256, "scheduler": "ddim"},
    )
    assert manifests.read(out) == manifest
    assert (manifest.name, manifest.revision, manifest.license, manifest.origin) == ("mine", "7", "MIT", ["there"])
    assert manifest.notes.startswith("Small. No safety checker")
    assert manifest.text.vocabulary == ["cat", "hat"]
    assert manifest.native_size == (64, 64)
    assert (manifest.defaults.num_inference_steps, manifest.defaults.width) == (8, 256)
    assert (out / "LICENSE").read_text() == "free"
    assert "From: there" in (out / "NOTICE.txt").read_text()


def test_int8_weights_and_a_tiny_decoder(source, tmp_path):
    """int8 weights take less than 30% of the space of f32, and an AutoencoderTiny can replace the decoder."""
    tiny = tiny_pipeline.folder(name="tiny_decoder", tiny_decoder=True) / "vae"
    messages: list[str] = []
    manifest = bake(source, tmp_path / "out", precision="int8", decoder=str(tiny), progress=messages.append)
    sizes = [
        (folder / "unet.bin").stat().st_size for folder in (tmp_path / "out", tiny_pipeline.baked(precision="f32"))
    ]
    assert sizes[0] < 0.3 * sizes[1]
    assert (manifest.precision, manifest.tiny_decoder, manifest.latents.scaling_factor) == ("int8", True, 1.0)
    assert sum("relative error" in line for line in messages) == 4
    with pytest.raises(ModelError, match="is missing"):
        bake(source, tmp_path / "other", decoder=str(tmp_path / "missing"))


def test_an_existing_folder_is_kept_without_force(source, tmp_path):
    """An existing folder is replaced only with `force`, and only if it contains a baked model."""
    out = tmp_path / "out"
    bake(source, out, engine="diffusers", name="first")
    with pytest.raises(OutputError, match="already exists"):
        bake(source, out, engine="diffusers", name="second")
    assert manifests.read(out).name == "first"
    bake(source, out, engine="diffusers", name="second", force=True)
    assert manifests.read(out).name == "second"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("chapter one")
    with pytest.raises(OutputError, match="is not a baked model"):
        bake(source, other, engine="diffusers", force=True)
    assert (other / "thesis.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out", "source"]
