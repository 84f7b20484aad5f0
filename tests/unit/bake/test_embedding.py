"""Textual inversion embeddings: checked, and added to tokenizers and text encoders (bake/embedding.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lambdiff.bake import additions, clip_tokenizer, embedding, pipeline_folder
from lambdiff.errors import InvalidRequest, ModelError
from support import tiny_checkpoint, tiny_lora

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of each family."""
    root = tmp_path_factory.mktemp("models")
    for family in ("sd1", "sdxl"):
        tiny_checkpoint.pipeline(family).save_pretrained(root / family)
    return root


def write(path: Path, **shapes: tuple[int, ...]) -> Path:
    """Write tensors of random numbers."""
    save_file({name: torch.randn(shape) for name, shape in shapes.items()}, path)
    return path


def add(model: Path, out: Path, *embeddings: tuple[str | None, Path]) -> list[embedding.Embedding]:
    """Copy a model with embeddings added to `out`."""
    pipeline = pipeline_folder.read(model)
    found = additions.read([], embeddings, model, pipeline)
    additions.copy(model, out, pipeline, lambda _: None)
    found.merge(out, pipeline, lambda _: None)
    return list(found.embeddings)


def ids(folder: Path, prompt: str) -> list[int]:
    """Return the tokens of a prompt without start and end."""
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer(prompt).input_ids[1:-1]


def test_a_word_becomes_its_vectors(models: Path, tmp_path: Path) -> None:
    """A word, in either case and beside punctuation, becomes one token for each vector; parts of words do not."""
    style = write(tmp_path / "MyStyle.safetensors", emb_params=(3, 32))
    toy = write(tmp_path / "learned_embeds.safetensors", **{"<cat-toy>": (32,)})
    add(models / "sd1", tmp_path / "out", (None, style), ("<cat-toy>", toy))
    first = clip_tokenizer.TOKENS
    three, one = [first, first + 1, first + 2], [first + 3]
    plain = clip_tokenizer.make()
    tokens = tmp_path / "out" / "tokenizer"
    assert ids(tokens, "mystyle") == three
    assert ids(tokens, "a (MyStyle:1.2),MYSTYLE.<cat-toy><cat-toy>") == [
        *plain("a (").input_ids[1:-1], *three, *plain(":1.2),").input_ids[1:-1], *three, 269, *one, *one,
    ]  # fmt: skip
    for other in ("mystyles", "amystyle", "cat-toy", "a cat"):
        assert ids(tokens, other) == plain(other).input_ids[1:-1]
    table = load_file(tmp_path / "out" / "text_encoder" / "model.safetensors")
    rows = next(value for name, value in table.items() if name.endswith("token_embedding.weight"))[first:]
    assert torch.equal(rows, torch.cat([load_file(style)["emb_params"], load_file(toy)["<cat-toy>"][None]]))


def test_both_text_encoders_of_sdxl_learn_the_word(models: Path, tmp_path: Path) -> None:
    """Each text encoder gets the matrix of its own."""
    file = write(tmp_path / "style.safetensors", clip_l=(2, 32), clip_g=(2, 64))
    add(models / "sdxl", tmp_path / "out", ("xlstyle", file))
    for part, name in (("", "clip_l"), ("_2", "clip_g")):
        assert ids(tmp_path / "out" / f"tokenizer{part}", "xlstyle") == [49408, 49409]
        table = load_file(tmp_path / "out" / f"text_encoder{part}" / "model.safetensors")
        rows = next(value for key, value in table.items() if key.endswith("token_embedding.weight"))[49408:]
        assert torch.equal(rows, load_file(file)[name])


def test_a_known_word_is_replaced_with_a_note(models: Path, tmp_path: Path) -> None:
    """A word that the model knows can be used, and a note says that its meaning is lost; a shorter word is no part."""
    file = write(tmp_path / "cat.safetensors", emb_params=(1, 32))
    longer = write(tmp_path / "cat-2.safetensors", emb_params=(1, 32))
    known, unknown = add(models / "sd1", tmp_path / "out", (None, file), (None, longer))
    assert "no longer for what the model knows" in known.note
    assert unknown.note == 'The word "cat-2" in a prompt stands for cat-2.safetensors.'
    assert ids(tmp_path / "out" / "tokenizer", "cat-2 cat concatenate")[:2] == [49409, 49408]


@pytest.mark.parametrize(
    ("family", "shapes", "message"),
    [
        ("sd1", {"emb_params": (2, 48)}, "vectors of 48 numbers, and the model's text_encoder reads 32"),
        ("sd1", {"emb_params": (0, 32)}, "number of vectors"),
        ("sd1", {"emb_params": (76, 32)}, "more than a prompt has tokens"),
        ("sd1", {"clip_l": (1, 32), "clip_g": (1, 64)}, "for Stable Diffusion XL, and the model is not"),
        ("sdxl", {"emb_params": (1, 32)}, "is not an embedding for Stable Diffusion XL"),
        ("sdxl", {"clip_l": (1, 32)}, "is not an embedding for Stable Diffusion XL"),
        ("sdxl", {"clip_l": (2, 32), "clip_g": (1, 64)}, "the same number of vectors"),
        ("sd1", {"a.b": (1, 32)}, "is not an embedding"),
        ("sd1", {"one": (1, 32), "two": (1, 32)}, "has 2 tensors, not one"),
    ],
)
def test_what_does_not_fit_is_refused(family: str, shapes: Any, message: str, models: Path, tmp_path: Path) -> None:
    """Another width, another family and other files are refused by name."""
    file = write(tmp_path / "style.safetensors", **shapes)
    with pytest.raises(ModelError) as caught:
        additions.read([], [(None, file)], models / family, pipeline_folder.read(models / family))
    assert message in caught.value.message


@pytest.mark.parametrize("word", ["", "two words", "tab\t", "\u200b"])
def test_a_name_must_be_one_word(word: str, models: Path, tmp_path: Path) -> None:
    """What cannot be found in a prompt cannot be the name."""
    file = write(tmp_path / "style.safetensors", emb_params=(1, 32))
    with pytest.raises(InvalidRequest, match="is not one word"):
        embedding.read(file, word, models / "sd1", pipeline_folder.read(models / "sd1"))


def test_two_embeddings_need_two_names(models: Path, tmp_path: Path) -> None:
    """Names that differ in their case only are the same."""
    file = write(tmp_path / "style.safetensors", emb_params=(1, 32))
    with pytest.raises(InvalidRequest, match='Two embeddings have the name "STYLE"'):
        additions.read([], [(None, file), ("STYLE", file)], models / "sd1", pipeline_folder.read(models / "sd1"))


def test_a_lora_is_no_embedding(models: Path, tmp_path: Path) -> None:
    """A LoRA is refused as such."""
    file = tiny_lora.save(tiny_lora.make(tiny_checkpoint.pipeline("sd1")), tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match="is a LoRA, not an embedding") as caught:
        embedding.read(file, None, models / "sd1", pipeline_folder.read(models / "sd1"))
    assert "`loras=`" in caught.value.fix
