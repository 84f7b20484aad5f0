"""One-file checkpoints: recognized, checked and turned into a folder (bake/checkpoint.py, bake/families_by_keys.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lambdiff.bake import checkpoint, clip_tokenizer, families_by_keys, parameters, pipeline_folder, text_models
from lambdiff.bake.bake import bake
from lambdiff.engine import manifest as manifests
from lambdiff.errors import InvalidRequest, LambdiffError, ModelError
from support import original_layout, published_models, tiny_checkpoint, tiny_lora

pytestmark = pytest.mark.engine
FAMILIES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(folder, file) of a small pipeline of each family."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {family: tiny_checkpoint.save(family, folder) for family in FAMILIES}


@pytest.fixture(scope="module")
def tensors(saved):
    """The tensors of each family's file."""
    return {family: load_file(file) for family, (_, file) in saved.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_published_models_get_their_published_configurations(family: str, tmp_path: Path) -> None:
    """The real names and shapes of SD 1.5, 2.1 and XL give the configurations of the authors' folders."""
    model = published_models.pipeline(family)
    file = original_layout.save_header(original_layout.checkpoint(model), tmp_path / f"{family}.safetensors")
    found = checkpoint.read(file, "v" if family == "sd2" else None)
    assert found.family == family
    parts = {name: part.config for name, part in found.parts.items()}
    assert parts["unet"].items() >= published_models.UNETS[family].items()
    scaling_factor = 0.13025 if family == "sdxl" else 0.18215
    assert parts["vae"].items() >= (published_models.VAE | {"scaling_factor": scaling_factor}).items()
    texts = [config for name, config in parts.items() if name.startswith("text_encoder")]
    for text, published in zip(texts, published_models.TEXT_ENCODERS[family], strict=True):
        assert text.items() >= published.items()
    prediction = "predicts v" if family == "sd2" else "predicts noise"
    assert found.notes == (f"{file.name} is a checkpoint of {families_by_keys.NAMES[found.family]} that {prediction}.",)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_weight_arrives(family: str, precision: torch.dtype, saved, tensors, tmp_path: Path) -> None:
    """The folder has exactly the tensors that diffusers saves, in the precision of the file."""
    folder, _ = saved[family]
    stored = {
        name: value.to(precision) if value.is_floating_point() else value for name, value in tensors[family].items()
    }
    file = original_layout.save(stored, tmp_path / "model.safetensors")
    found = checkpoint.read(file, "epsilon" if family == "sd2" else None)
    found.write_configuration(tmp_path / "out")
    found.write_weights(tmp_path / "out", lambda _: None)
    compared = 0
    for path in folder.rglob("*.safetensors"):
        expected, actual = load_file(path), load_file(tmp_path / "out" / path.relative_to(folder))
        assert expected.keys() == actual.keys()
        assert all(torch.equal(actual[name], value.to(precision)) for name, value in expected.items())
        compared += 1
    assert compared == (4 if family == "sdxl" else 3)


def test_averaged_weights_and_unknown_tensors_are_left_out_and_named(tensors, tmp_path: Path) -> None:
    """Extra tensors do not disturb; a note says which are left out, except for the schedules of the training code."""
    ema = {f"model_ema.diffusion_model{index}": torch.zeros(1) for index in range(120)}
    more = ema | {"alphas_cumprod": torch.zeros(1000), "hypernetwork.weight": torch.zeros(2)}
    file = original_layout.save(tensors["sd1"] | more, tmp_path / "model.safetensors")
    notes = " ".join(checkpoint.read(file, None).notes)
    assert "averaged (EMA) weights in the file are left out" in notes
    assert "1 tensors are not part of the model and are left out, for example hypernetwork.weight" in notes


def test_old_names_of_the_text_encoder_are_read(tensors, tmp_path: Path) -> None:
    """Checkpoints without `text_model.` in the names of the text encoder are read like others."""
    renamed = {
        name.replace("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."): value
        for name, value in tensors["sd1"].items()
    }
    assert renamed.keys() != tensors["sd1"].keys()
    checkpoint.read(original_layout.save(renamed, tmp_path / "model.safetensors"), None)


@pytest.mark.parametrize(
    ("metadata", "given", "expected"),
    [
        ({"modelspec.prediction_type": "v"}, None, "v"),
        ({"modelspec.prediction_type": "epsilon"}, None, "epsilon"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, None, "v"),
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, "epsilon", "epsilon"),
        ({}, "v", "v"),
        ({}, None, ModelError),
        ({"modelspec.prediction_type": "v"}, "epsilon", ModelError),
    ],
)
def test_stable_diffusion_2_says_or_is_told_what_it_predicts(
    metadata: dict[str, str], given: Any, expected: Any, tensors, tmp_path: Path
) -> None:
    """The metadata decide; without them the caller must, since nothing else in the file tells."""
    file = original_layout.save(tensors["sd2"], tmp_path / "model.safetensors", metadata)
    if isinstance(expected, str):
        found = checkpoint.read(file, given)
        assert found.prediction == expected
        assert found.scheduler["prediction_type"] == ("v_prediction" if expected == "v" else "epsilon")
        assert found.parts["unet"].config["sample_size"] == (96 if expected == "v" else 64)
    else:
        with pytest.raises(expected, match="predicts"):
            checkpoint.read(file, given)


def test_marks_of_v_prediction_and_zero_snr_are_read(tensors, tmp_path: Path) -> None:
    """The empty tensors `v_pred` and `ztsnr`, with which SDXL models say so, set prediction and noise schedule."""
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    found = checkpoint.read(original_layout.save(tensors["sdxl"] | marks, tmp_path / "model.safetensors"), None)
    assert (found.prediction, found.scheduler["rescale_betas_zero_snr"]) == ("v", True)


def without(prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that drops the tensors whose names begin with a prefix."""
    return lambda tensors: {name: value for name, value in tensors.items() if not name.startswith(prefix)}


def only(prefix: str, new: str = "") -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that keeps the tensors whose names begin with a prefix, which it replaces."""
    return lambda tensors: {
        name.replace(prefix, new, 1): value for name, value in tensors.items() if name.startswith(prefix)
    }


def plus(**more: tuple[int, ...]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that adds tensors of zeros; `__` in a name stands for a dot."""
    return lambda tensors: tensors | {name.replace("__", "."): torch.zeros(shape) for name, shape in more.items()}


FIRST = "model.diffusion_model.input_blocks.0.0.weight"
MIDDLE = "model.diffusion_model.middle_block.1.norm.weight"


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("sd1", without("first_stage_model."), "Stable Diffusion 1 without its VAE"),
        ("sdxl", without("first_stage_model."), "Stable Diffusion XL without its VAE"),
        ("sd1", without("cond_stage_model."), "a UNet without a text encoder"),
        ("sd1", without("model.diffusion_model."), "Stable Diffusion 1 without its UNet"),
        ("sdxl", without("conditioner.embedders.1."), "without its second text encoder"),
        ("sdxl", without("conditioner.embedders.0."), "Stable Diffusion XL without text_model"),
        ("sd1", only("model.diffusion_model."), "contains a UNet alone"),
        ("sd1", only("first_stage_model."), "contains a VAE alone"),
        ("sd1", only("cond_stage_model.transformer."), "contains a text encoder alone"),
        ("sd1", only("model.diffusion_model.", "model_ema."), "only the averaged (EMA) weights"),
        ("sdxl", only("conditioner.embedders.1.", "conditioner.embedders.0."), "refiner"),
        ("sd1", lambda t: t | {FIRST: torch.zeros(32, 8, 3, 3)}, "an InstructPix2Pix checkpoint"),
        ("sd2", lambda t: t | {FIRST: torch.zeros(32, 5, 3, 3)}, "a depth-to-image checkpoint"),
        ("sd1", plus(control_model__time_embed__0__weight=(1,)), "a ControlNet"),
        ("sd1", plus(double_blocks__0__img_attn__qkv__weight=(1,)), "a checkpoint of FLUX"),
        ("sd1", plus(model__diffusion_model__joint_blocks__0__x=(1,)), "a checkpoint of Stable Diffusion 3"),
        ("sdxl", plus(edm_mean=(4,), edm_std=(4,)), "a checkpoint of Playground 2.5"),
        ("sd1", lambda t: {name: value for name, value in t.items() if name != MIDDLE}, "its unet differs: 1 tensors"),
        ("sd1", lambda t: t | {MIDDLE: torch.zeros(7)}, "its unet differs: 1 tensors are of another shape"),
        ("sd1", lambda t: t | {MIDDLE + ".x": torch.zeros(7)}, "its unet differs"),
        ("sd1", lambda t: t | {"model.diffusion_model.x.y": torch.zeros(7)}, "have unknown names"),
        ("sd1", lambda t: t | {MIDDLE: torch.zeros(64, dtype=torch.int8)}, "as I8, which is not supported"),
        ("sd1", lambda _: {"weight.0": torch.zeros(3, 3, 3)}, "not a checkpoint of a known family"),
        ("sd1", lambda _: {"emb_params": torch.zeros(2, 768)}, "a textual inversion embedding, not a checkpoint"),
        ("sd1", lambda _: {"down_blocks.0.weight": torch.zeros(2)}, "a UNet under diffusers' names"),
    ],
)
def test_what_is_no_complete_model_is_named(family: str, change: Any, message: str, tensors, tmp_path: Path) -> None:
    """Parts of models, models of other kinds and other files are refused by name, before any weights are read."""
    file = original_layout.save(change(tensors[family]), tmp_path / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        checkpoint.read(file, "epsilon" if family == "sd2" else None)
    assert message in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_checkpoints_for_inpainting_are_read(family: str, tensors, tmp_path: Path) -> None:
    """A UNet that reads a mask and a masked image is one for inpainting, and bakes with the image encoder only."""
    first = torch.zeros(32, 9, 3, 3)
    first[:, :4] = tensors[family][FIRST]
    file = original_layout.save(tensors[family] | {FIRST: first}, tmp_path / "model.safetensors")
    read = checkpoint.read(file, "epsilon")
    read.write_configuration(tmp_path / "folder")
    read.write_weights(tmp_path / "folder", lambda _: None)
    pipeline = pipeline_folder.read(tmp_path / "folder")
    text_models.check_unet(pipeline, tmp_path / "folder")
    assert pipeline.inpainting
    assert parameters.choose_pictures(None, pipeline) == "required"
    with pytest.raises(InvalidRequest, match="one for inpainting"):
        parameters.choose_pictures(False, pipeline)


def test_a_text_encoder_with_another_vocabulary_is_refused(tensors, tmp_path: Path) -> None:
    """Only CLIP's vocabulary is at hand."""
    name = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    changed = tensors["sd1"] | {name: torch.zeros(100, 32)}
    with pytest.raises(ModelError, match=r"knows 100 tokens, and CLIP's vocabulary has 49,408"):
        checkpoint.read(original_layout.save(changed, tmp_path / "model.safetensors"), None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"", "is empty"),
        ("model.safetensors", b"\xff" * 100, "is not a complete safetensors file"),
        ("model.safetensors", b"PK\x03\x04" + bytes(100), "is a pickle"),
        ("model.safetensors", b"<!DOCTYPE html><html>", "is a web page"),
        ("model.safetensors", b'{"error": "Unauthorized"}', "is JSON, such as a website's error message"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("model.gguf", b"GGUF" + bytes(100), "is a GGUF file"),
        ("model.ckpt", b"PK\x03\x04" + bytes(100), "is a pickle"),
        ("model.pt", b"anything", "is a pickle"),
        ("model.bin", b"anything", "is a pickle"),
    ],
)
def test_damaged_files_and_other_formats_are_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """A file that is not safetensors is refused as what it is."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        bake(tmp_path / name, tmp_path / "out", engine="diffusers")
    assert caught.value.fix
    assert not (tmp_path / "out").exists()


def test_a_truncated_file_is_refused(saved, tmp_path: Path) -> None:
    """A download that ended early is noticed by the header alone."""
    content = saved["sd1"][1].read_bytes()
    for length in (4, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "model.safetensors").write_bytes(content[:length])
        with pytest.raises(ModelError, match="is not a complete safetensors file"):
            checkpoint.read(tmp_path / "model.safetensors", None)


def test_a_checkpoint_is_baked_under_its_own_name(saved, tmp_path: Path) -> None:
    """The manifest has the file's name, its hash and what was assumed, and the revision begins with the hash."""
    file = saved["sd1"][1]
    manifest = bake(file, tmp_path / "out", engine="diffusers")
    assert manifests.verify(tmp_path / "out") == manifest
    (source,) = manifest.sources
    assert (source.kind, source.name) == ("checkpoint", file.name)
    assert manifest.name == "sd1"
    assert manifest.revision == source.sha256[:12]
    assert "is a checkpoint of Stable Diffusion 1 that predicts noise" in manifest.notes
    assert source.sha256 in (tmp_path / "out" / "NOTICE.txt").read_text()
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"


def test_a_prediction_is_only_for_checkpoints(saved, tmp_path: Path) -> None:
    """A folder's configuration says what its UNet predicts, so that another statement is refused."""
    with pytest.raises(InvalidRequest, match="its configuration says what it predicts"):
        bake(saved["sd1"][0], tmp_path / "out", engine="diffusers", prediction="v")


def test_clips_tokens_are_the_published_ones() -> None:
    """The tokenizer gives the ids of OpenAI's CLIP, also for other scripts, digits, punctuation and spaces."""
    tokenizer = clip_tokenizer.make()
    assert len(tokenizer) == clip_tokenizer.TOKENS
    assert tokenizer("a photo of an astronaut riding a horse on mars").input_ids == [
        49406, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496, 49407,
    ]  # fmt: skip
    assert tokenizer("Hello,  WORLD! cat").input_ids == [49406, 3306, 267, 1002, 256, 2368, 49407]
    assert clip_tokenizer.make(pad_token="!").pad_token_id == 0


def test_a_lora_as_the_source_is_told_where_it_belongs(tmp_path: Path) -> None:
    """A LoRA given as the model is refused with advice, whatever its names."""
    pipeline = tiny_checkpoint.pipeline("sd1")
    for names in ("kohya", "diffusers", "peft"):
        file = tiny_lora.save(tiny_lora.make(pipeline, names), tmp_path / f"{names}.safetensors")
        with pytest.raises(LambdiffError, match="is a LoRA, not a checkpoint") as caught:
            bake(file, tmp_path / "out")
        assert "`loras=`" in caught.value.fix
