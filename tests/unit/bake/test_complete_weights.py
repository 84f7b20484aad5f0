"""Weights are complete before anything is converted or copied (bake/complete_weights.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lambdiff.bake import complete_weights, pipeline_folder
from lambdiff.bake.bake import bake
from lambdiff.errors import ModelError
from support import tiny_pipeline

pytestmark = pytest.mark.engine

UNET = Path("unet", "diffusion_pytorch_model.safetensors")
VAE = Path("vae", "diffusion_pytorch_model.safetensors")


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a file."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def shard(unet: Path) -> list[Path]:
    """Split the weights of a UNet into several files with an index, and return them."""
    tensors = load_file(unet.parent / UNET)
    (unet.parent / UNET).unlink()
    names = sorted(tensors)
    files = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    weight_map = {name: files[number % 2] for number, name in enumerate(names)}
    for file in files:
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, unet / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": weight_map}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return [unet / file for file in files]


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a parameter is missing": (
        lambda source: edit(source / UNET, lambda tensors: tensors.pop("conv_in.weight")),
        "lacks 1 of the model's parameters: conv_in.weight",
    ),
    "the last parameters are missing": (
        lambda source: edit(source / VAE, lambda tensors: [tensors.pop(name) for name in sorted(tensors)[:5]]),
        "lacks 5 of the model's parameters: .* and 2 more",
    ),
    "another shape": (
        lambda source: edit(
            source / UNET, lambda tensors: tensors.update({"conv_in.weight": torch.zeros(32, 3, 3, 3)})
        ),
        r"conv_in.weight has the shape \(32, 3, 3, 3\), not \(32, 4, 3, 3\)",
    ),
    "integers": (
        lambda source: edit(
            source / UNET, lambda tensors: tensors.update({name: t.to(torch.int8) for name, t in tensors.items()})
        ),
        "as I8, which is not supported",
    ),
    "truncated": (lambda source: (source / VAE).write_bytes((source / VAE).read_bytes()[:-1000]), "not a complete"),
    "empty": (lambda source: (source / VAE).write_bytes(b""), "is empty"),
    "a pointer of Git LFS": (
        lambda source: (source / UNET).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        "is a Git LFS pointer",
    ),
    "a shard is missing": (lambda source: shard(source / "unet")[1].unlink(), "cannot be read: No such file"),
    "the index of the shards is missing": (
        lambda source: (shard(source / "unet"), next((source / "unet").glob("*.index.json")).unlink()),
        "lacks the index of its sharded weights",
    ),
    "quantized": (
        lambda source: tiny_pipeline.edit_json(source / "unet" / "config.json", quantization_config={"bits": 4}),
        "is quantized",
    ),
    "another configuration": (
        lambda source: tiny_pipeline.edit_json(source / "text_encoder" / "config.json", num_hidden_layers=3),
        "lacks 16 of the model's parameters",
    ),
}


@pytest.mark.parametrize("engine", ["openvino", "diffusers"])
@pytest.mark.parametrize(("spoil", "message"), SPOILED.values(), ids=SPOILED)
def test_incomplete_weights_are_refused_before_any_work(
    source: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str, engine: str
) -> None:
    """The message names the component, no step of the conversion begins, and no files are left."""
    spoil(source)
    begun: list[str] = []
    with pytest.raises(ModelError, match=message) as caught:
        bake(source, tmp_path / "out", engine=engine, progress=begun.append)  # type: ignore[arg-type]
    assert caught.value.fix
    assert [step for step in begun if not step.startswith("note:")] == []
    assert list(tmp_path.iterdir()) == [source]


def test_a_damaged_tiny_decoder_is_refused_before_any_work(source: Path, tmp_path: Path) -> None:
    """The weights of another decoder are checked like the pipeline's own."""
    tiny = tiny_pipeline.save(tmp_path / "tiny", tiny_decoder=True) / "vae"
    edit(tiny / VAE.name, lambda tensors: tensors.pop(min(tensors)))
    begun: list[str] = []
    with pytest.raises(ModelError, match="lacks 1 of the model's parameters"):
        bake(source, tmp_path / "out", decoder=tiny, progress=begun.append)
    assert begun == []


def test_complete_weights_under_other_names_are_accepted(source: Path) -> None:
    """Shards, half precision, additional tensors, and the names of older versions of the libraries."""
    shard(source / "unet")
    edit(source / VAE, lambda tensors: tensors.update({name: t.half() for name, t in tensors.items()}))
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".attentions." in name]:
            for new_part, old_part in old.items():
                if f".{new_part}." in name:
                    tensors[name.replace(new_part, old_part)] = tensors.pop(name)

    edit(source / VAE, rename)
    edit(
        source / "text_encoder" / "model.safetensors",
        lambda tensors: tensors.update(
            {"text_model.embeddings.position_ids": torch.arange(16)[None]}
            | {f"text_model.{name.removeprefix('text_model.')}": tensors.pop(name) for name in list(tensors)}
        ),
    )
    complete_weights.check(source, pipeline_folder.read_index(source))
