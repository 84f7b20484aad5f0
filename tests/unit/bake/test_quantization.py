"""Eight-bit activations, which are kept only if images stay close (bake/quantization.py)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lambdiff.bake import quantization
from lambdiff.bake.bake import bake
from lambdiff.engine import manifest as manifests
from lambdiff.engine.core import core
from lambdiff.errors import ModelError
from support import tiny_pipeline, tiny_xl

pytestmark = pytest.mark.engine

PROMPTS = ("a cat", "a dog", "two hat", "the red hat", "a cat on blue", "a dog in a hat", "a background", "red dog")
ATTENTION = "ScaledDotProductAttention"


def test_eight_bit_activations_are_kept_if_images_stay_close(source, tmp_path, monkeypatch):
    """A quantized UNet is kept if it generates nearly the same images; otherwise nothing is written."""
    monkeypatch.setattr(quantization, "MIN_PSNR", 15.0)
    messages: list[str] = []
    defaults = {"num_inference_steps": 3, "guidance_scale": 2.0, "scheduler": "ddim"}
    settings = {"precision": "w8a8", "calibration": PROMPTS, "defaults": defaults}
    manifest = bake(source, tmp_path / "out", progress=messages.append, **settings)
    assert manifests.verify(tmp_path / "out") == manifest
    assert manifest.precision == "w8a8"
    assert sum(line.startswith("calibrating") for line in messages) == 6
    assert any(re.fullmatch(r"unet: \d+\.\d dB", line) for line in messages)
    assert "FakeQuantize" in (tmp_path / "out" / "unet.xml").read_text()
    assert sorted(path.name for path in (tmp_path / "out").glob("unet*")) == ["unet.bin", "unet.xml"]
    monkeypatch.setattr(quantization, "MIN_PSNR", 90.0)
    with pytest.raises(ModelError, match="differ too much"):
        bake(source, tmp_path / "other", **settings)
    assert not (tmp_path / "other").exists()


def test_inputs_of_attention_are_not_quantized(tmp_path, monkeypatch):
    """Attention's inputs stay unquantized; otherwise OpenVINO would hold all attention scores in memory at once.

    Here with Stable Diffusion XL, whose text encoders are stored in eight bits as well.
    """
    monkeypatch.setattr(quantization, "MIN_PSNR", 15.0)
    defaults = {"num_inference_steps": 1, "guidance_scale": 2.0, "width": 64, "height": 64}
    folder = tmp_path / "out"
    bake(tiny_xl.folder(), folder, precision="w8a8", calibration=PROMPTS, defaults=defaults)
    for part in ("text_encoder", "text_encoder_2"):
        assert 'element_type="u8"' in (folder / f"{part}.xml").read_text()
    nodes = core().read_model(folder / "unet.xml").get_ops()
    assert any(node.get_type_name() == "FakeQuantize" for node in nodes)
    attentions = [node for node in nodes if node.get_type_name() == ATTENTION]
    producers = [_producer(node.input_value(n)) for node in attentions for n in range(3)]
    assert producers
    assert "FakeQuantize" not in producers


def _producer(value):
    """Return the type of the operation that computes a value, ignoring changes of its shape."""
    node = value.get_node()
    if node.get_type_name() in ("Transpose", "Reshape"):
        return _producer(node.input_value(0))
    return node.get_type_name()


def test_a_refused_quantization_leaves_the_unet_unchanged(tmp_path, monkeypatch):
    """If quantization is refused, the files still match the hashes in the manifest."""
    folder = Path(shutil.copytree(tiny_pipeline.baked(precision="f32"), tmp_path / "folder"))
    monkeypatch.setattr(quantization, "MIN_PSNR", 90.0)
    with pytest.raises(ModelError, match="differ too much"):
        quantization.quantize_unet(folder, manifests.read(folder), PROMPTS, lambda _: None)
    manifests.verify(folder)
