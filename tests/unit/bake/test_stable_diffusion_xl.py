"""Converting a Stable Diffusion XL pipeline, and refusing an unusable one (bake/stable_diffusion_xl.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lambdiff.bake.bake import bake
from lambdiff.engine import manifest as manifests
from lambdiff.engine.core import core
from lambdiff.errors import ModelError
from support import tiny_pipeline, tiny_xl

pytestmark = pytest.mark.engine


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the tiny pipeline that a test may change."""
    return Path(shutil.copytree(tiny_xl.folder(), tmp_path / "source"))


def test_the_folder_has_both_text_encoders(source: Path, tmp_path: Path) -> None:
    """Both text encoders and tokenizers are written, each tokenizer with its own padding; DeepCache is supported."""
    messages: list[str] = []
    manifest = bake(source, tmp_path / "out", precision="int8", deepcache_interval=2, progress=messages.append)
    assert manifests.verify(tmp_path / "out") == manifest
    assert manifest.family == "stable_diffusion_xl"
    assert manifest.text.max_length == 16
    parts = {Path(file.path).stem for file in manifest.files if file.path.endswith(".bin")}
    assert parts == {"text_encoder", "text_encoder_2", "unet", "decoder", "encoder"}
    names = ("tokenizer.json", "tokenizer_2.json")
    pads = [json.loads((tmp_path / "out" / name).read_text())["padding"]["pad_token"] for name in names]
    assert pads == [tiny_pipeline.END, "!"]
    # Kernels stay in f16, because OpenVINO would expand them.
    nodes = core().read_model(tmp_path / "out" / "unet.xml").get_ops()
    constants = [node for node in nodes if node.get_type_name() == "Constant"]
    types = {tuple(node.get_output_shape(0)): node.get_output_element_type(0).get_type_name() for node in constants}
    assert {name for shape, name in types.items() if shape[2:] == (3, 3)} == {"f16"}
    assert {len(shape) for shape, name in types.items() if name == "u8" and len(shape) > 1} == {2}
    assert manifest.memory is not None
    assert any(f"about {manifest.memory.bf16_mb:,} MB where the processor has bf16" in line for line in messages)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"requires_aesthetics_score": True}, "refiner"),
        ("unet/config.json", {"projection_class_embeddings_input_dim": 80}, "input_dim is 80, not 88: it does not fit"),
        ("unet/config.json", {"addition_time_embed_dim": None}, "input_dim is 88, not 40"),
        ("unet/config.json", {"addition_embed_type": None}, "addition_embed_type None, which is not supported"),
        ("text_encoder_2/config.json", {"projection_dim": 48}, "input_dim is 88, not 96"),
        ("text_encoder_2/config.json", {"hidden_size": 64}, "different width"),
        ("model_index.json", {"text_encoder": [None, None]}, "lacks the component text_encoder"),
        ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "text_encoder_2 of .* is a CLIP"),
    ],
)
@pytest.mark.parametrize("engine", ["openvino", "diffusers"])
def test_unusable_pipelines_are_refused(source: Path, tmp_path: Path, engine, file, changes, message) -> None:
    """Refiners, and parts that do not fit together, are refused before any work."""
    tiny_pipeline.edit_json(source / file, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        bake(source, tmp_path / "out", engine=engine)
    assert caught.value.fix
    assert list(tmp_path.iterdir()) == [source]


def test_normalized_latents_need_the_diffusers_engine(source: Path, tmp_path: Path) -> None:
    """Latents with a mean and a standard deviation are refused for the OpenVINO engine, and the other one bakes."""
    tiny_pipeline.edit_json(source / "vae" / "config.json", latents_mean=[0.1] * 4, latents_std=[1.5] * 4)
    with pytest.raises(ModelError, match="mean and a standard deviation") as caught:
        bake(source, tmp_path / "out")
    assert caught.value.fix == 'Pass `engine="diffusers"`.'
    bake(source, tmp_path / "out", engine="diffusers")
