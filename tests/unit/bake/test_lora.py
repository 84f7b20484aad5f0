"""LoRAs: checked against the model, and merged into its weights (bake/lora.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from lambdiff.bake import additions, lora, pipeline_folder
from lambdiff.bake.bake import bake
from lambdiff.errors import InvalidRequest, ModelError
from support import tiny_checkpoint, tiny_lora

pytestmark = pytest.mark.engine
RANKS = (2, 4, 8)
WEIGHT = 0.7


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(pipeline, folder) for each family."""
    root = tmp_path_factory.mktemp("models")
    made = {}
    for family in ("sd1", "sd2", "sdxl"):
        made[family] = tiny_checkpoint.pipeline(family), root / family
        made[family][0].save_pretrained(root / family)
    return made


def read(file: Path, folder: Path, weight: float = WEIGHT) -> lora.Lora:
    """Read a LoRA for the model in a folder."""
    return lora.read(file, weight, folder, pipeline_folder.read(folder))


def changes(pipeline: Any, alpha: float | None, weight: float = WEIGHT, **options: Any) -> dict[str, torch.Tensor]:
    """Return how a LoRA of `tiny_lora` changes each layer: its definition in four lines."""
    tensors = tiny_lora.make(pipeline, "peft", **options)
    found = {}
    for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
        down, up = tensors[name], tensors[name.replace("lora_A", "lora_B")]
        product = (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])
        scale = 1.0 if alpha is None else alpha / down.shape[0]
        found[name.removesuffix(".lora_A.weight").replace("text_model.", "")] = weight * scale * product
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the UNet and the text encoders."""
    return {
        f"{part}.{name.removeprefix('text_model.')}": tensor
        for part in ("unet", "text_encoder", "text_encoder_2")
        for path in (folder / part).glob("*.safetensors")
        for name, tensor in load_file(path).items()
    }


def check_merged(folder: Path, merged: Path, expected: dict[str, torch.Tensor]) -> None:
    """Check that exactly the expected layers have changed, by the expected amounts."""
    before, after = weights(folder), weights(merged)
    assert before.keys() == after.keys()
    changed = {name.removesuffix(".weight") for name in before if not torch.equal(before[name], after[name])}
    assert changed == expected.keys()
    for name, change in expected.items():
        torch.testing.assert_close(after[f"{name}.weight"] - before[f"{name}.weight"], change, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "names", "layers"),
    [
        ("sd1", "kohya", tiny_lora.LINEAR),
        ("sd1", "kohya", tiny_lora.WITH_CONVOLUTIONS),
        ("sd1", "kohya", ("q_proj", "v_proj", "to_q")),
        ("sd1", "diffusers", tiny_lora.WITH_CONVOLUTIONS),
        ("sd1", "peft", tiny_lora.WITH_CONVOLUTIONS),
        ("sd2", "kohya", tiny_lora.WITH_CONVOLUTIONS),
        ("sdxl", "kohya", tiny_lora.LINEAR),
        ("sdxl", "kohya-sgm", tiny_lora.WITH_CONVOLUTIONS),
        ("sdxl", "diffusers", tiny_lora.WITH_CONVOLUTIONS),
        ("sdxl", "peft", tiny_lora.LINEAR),
    ],
)
def test_every_layer_changes_by_its_product(family: str, names: Any, layers: Any, models, tmp_path: Path) -> None:
    """Weights grow by weight * alpha / rank * up @ down, for every convention of names and for ranks that differ."""
    pipeline, folder = models[family]
    alpha = 2.0 if names.startswith("kohya") else None
    options = {"layers": layers, "rank": lambda number: RANKS[number % 3]}
    file = tiny_lora.save(tiny_lora.make(pipeline, names, alpha=alpha, **options), tmp_path / "lora.safetensors")
    found = read(file, folder)
    merged = Path(shutil.copytree(folder, tmp_path / "merged"))
    lora.fuse([found], merged, pipeline_folder.read(merged), lambda _: None)
    check_merged(folder, merged, changes(pipeline, alpha, **options))


def test_several_loras_add_up(models, tmp_path: Path) -> None:
    """Two LoRAs, one of them with a negative weight, change the model by the sum."""
    pipeline, folder = models["sd1"]
    found, expected = [], {}
    for seed, weight in ((1, 0.5), (2, -1.5)):
        file = tiny_lora.save(tiny_lora.make(pipeline, seed=seed), tmp_path / f"{seed}.safetensors")
        found.append(read(file, folder, weight))
        for name, change in changes(pipeline, 2.0, weight, seed=seed).items():
            expected[name] = expected.get(name, 0) + change
    merged = Path(shutil.copytree(folder, tmp_path / "merged"))
    lora.fuse(found, merged, pipeline_folder.read(merged), lambda _: None)
    check_merged(folder, merged, expected)


def test_alpha_in_the_metadata_counts(models, tmp_path: Path) -> None:
    """diffusers' training scripts write alpha into the metadata, with exceptions for some layers."""
    pipeline, folder = models["sd1"]
    settings = {
        "unet.lora_alpha": 8,
        "unet.r": 4,
        "unet.alpha_pattern": {"attn1.to_q": 2},
        "text_encoder.lora_alpha": 4,
    }
    file = tiny_lora.save(
        tiny_lora.make(pipeline, "peft"), tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(settings)}
    )
    merged = Path(shutil.copytree(folder, tmp_path / "merged"))
    lora.fuse([read(file, folder)], merged, pipeline_folder.read(merged), lambda _: None)
    expected = {
        name: change * (1 if name.startswith("text") else 0.5 if name.endswith("attn1.to_q") else 2)
        for name, change in changes(pipeline, None).items()
    }
    check_merged(folder, merged, expected)


@pytest.mark.parametrize(("stored", "kept"), [("float16", torch.float16), ("bfloat16", torch.float32)])
def test_the_precision_of_the_weights_is_kept(stored: str, kept: torch.dtype, models, tmp_path: Path) -> None:
    """Half precision stays half precision, except bf16, in which small changes would be lost."""
    pipeline, folder = models["sd1"]
    rounded = tmp_path / "rounded"
    copy = tiny_checkpoint.pipeline("sd1")
    copy.to(getattr(torch, stored)).save_pretrained(rounded)
    lora.fuse(
        [read(tiny_lora.save(tiny_lora.make(pipeline), tmp_path / "a.safetensors"), folder)],
        rounded,
        pipeline_folder.read(rounded),
        lambda _: None,
    )
    assert {tensor.dtype for tensor in weights(rounded).values()} == {kept}


def renamed(tensors: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """Replace a part of all names."""
    return {name.replace(old, new): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: renamed(t, "lora_down.weight", "hada_w1_a"), "is a LoHa"),
        (lambda t: renamed(t, "lora_down.weight", "lokr_w1"), "is a LoKr"),
        (lambda t: t | {"lora_unet_x.dora_scale": torch.ones(1)}, "is a DoRA"),
        (lambda t: t | {"lora_unet_x.lora_mid.weight": torch.ones(1)}, "Tucker"),
        (lambda t: t | {"lora_unet_x.diff": torch.ones(1)}, "full weight differences"),
        (lambda t: renamed(t, "lora_unet_", "lora_unet_double_blocks_0_"), "is a LoRA for FLUX"),
        (lambda t: renamed(t, "lora_te_", "lora_te3_"), "is a LoRA for Stable Diffusion 3"),
        (lambda _: {"model.weight": torch.ones(2, 2)}, "is not a LoRA"),
        (lambda t: t | {"lora_unet_x.lora_down.weight": torch.ones(2, 2)}, "does not understand"),
        (lambda t: t | {"something.else": torch.ones(2)}, "diffusers"),
        (lambda t: renamed(t, "down_blocks_0", "down_blocks_7"), "lacks"),
        (lambda t: {name: tensor for name, tensor in t.items() if "lora_up" not in name}, "does not understand"),
        (lambda t: {name: tensor for name, tensor in t.items() if "lora_down" not in name}, "has no matrices for"),
    ],
)
def test_other_methods_and_unknown_names_are_refused(change: Any, message: str, models, tmp_path: Path) -> None:
    """Nothing of a file is ignored: what cannot be merged is refused by name, before any long work."""
    pipeline, folder = models["sd1"]
    file = tiny_lora.save(change(tiny_lora.make(pipeline)), tmp_path / "lora.safetensors")
    with pytest.raises(ModelError) as caught:
        read(file, folder)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "ours", "options", "message"),
    [
        ("sdxl", "sd1", {}, "is a LoRA for Stable Diffusion XL, and the model is Stable Diffusion 1"),
        ("sdxl", "sd1", {"text_encoders": False}, "is a LoRA for Stable Diffusion XL, and the model is Stable Diff"),
        ("sd2", "sd1", {"layers": tiny_lora.WITH_CONVOLUTIONS}, "for Stable Diffusion 2, and the model is Stable Dif"),
        ("sd1", "sd2", {"layers": tiny_lora.WITH_CONVOLUTIONS}, "for Stable Diffusion 1, and the model is Stable Dif"),
        ("sd1", "sdxl", {"layers": tiny_lora.WITH_CONVOLUTIONS}, "for Stable Diffusion 1, and the model is Stable D"),
        ("sd1", "sdxl", {}, "does not fit this Stable Diffusion XL"),
    ],
)
def test_a_lora_of_another_family_is_refused(
    theirs: str, ours: str, options: Any, message: str, models, tmp_path: Path
) -> None:
    """The message names both families, if the file gives its own away."""
    file = tiny_lora.save(tiny_lora.make(models[theirs][0], **options), tmp_path / "lora.safetensors")
    with pytest.raises(ModelError) as caught:
        read(file, models[ours][1])
    assert message in caught.value.message


@pytest.mark.parametrize("weight", [0.0, 10.5, -11.0, float("nan"), float("inf")])
def test_weights_without_a_meaning_are_refused(weight: float, tmp_path: Path) -> None:
    """The weight is checked before the file is looked for."""
    with pytest.raises(InvalidRequest, match=r"must be -10\.\.10 and not 0"):
        lora.check_weight(tmp_path / "missing.safetensors", weight)


def test_a_bake_records_its_loras(models, tmp_path: Path) -> None:
    """The manifest has file, hash and weight; the revision changes with each, and the source folder does not change."""
    pipeline, folder = models["sd1"]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    file = tiny_lora.save(tiny_lora.make(pipeline), tmp_path / "detail.safetensors")
    manifest = bake(folder, tmp_path / "out", engine="diffusers", loras=[(file, 0.5)])
    (source,) = manifest.sources
    assert (source.kind, source.name, source.weight) == ("lora", "detail.safetensors", 0.5)
    assert manifest.revision == f"local+detail:0.5@{source.sha256[:10]}"
    assert msgspec.structs.replace(source, weight=0.6).short == f"detail:0.6@{source.sha256[:10]}"
    assert "detail.safetensors is merged at 0.5." in manifest.notes
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_few_step_lora_sets_the_defaults(models, tmp_path: Path) -> None:
    """Sampler, steps and guidance follow from the LoRA, the caller's values come first, and a note says both."""
    pipeline, folder = models["sd1"]
    file = tiny_lora.save(tiny_lora.make(pipeline), tmp_path / "lcm-lora-sdv1-5.safetensors")
    manifest = bake(
        folder, tmp_path / "out", engine="diffusers", loras=[(file, 1.0)], defaults={"num_inference_steps": 6}
    )
    defaults = manifest.defaults
    assert (defaults.scheduler, defaults.num_inference_steps, defaults.guidance_scale) == ("lcm", 6, 1.0)
    assert "Defaults of the sampler lcm, no guidance, because lcm-lora-sdv1-5.safetensors" in manifest.notes
    another = tiny_lora.save(tiny_lora.make(pipeline), tmp_path / "TCD-SD15-LoRA.safetensors")
    with pytest.raises(InvalidRequest, match="both make the model generate in a few steps"):
        additions.read([(file, 1.0), (another, 1.0)], [], folder, pipeline_folder.read(folder))
