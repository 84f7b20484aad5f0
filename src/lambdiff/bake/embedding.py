"""Textual inversion: new words, whose embeddings are learned vectors, for the tokenizer and the text encoders.

A word stands for one or more tokens. The tokenizer itself replaces the word by its tokens, so that engines need to know
nothing about it: its normalizer turns the word into letters of Unicode's private use area, one for each vector, and
these letters are tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambdiff.bake import families_by_keys, output_folder, pipeline_folder, safetensors_file
from lambdiff.bake.parameters import Progress
from lambdiff.bake.pipeline_folder import PipelineConfig
from lambdiff.bake.safetensors_file import SafetensorsFile, Shape
from lambdiff.errors import InvalidRequest, ModelError

_FIRST_LETTER: Final = 0xE000
_LETTERS: Final = 6_400
"""The letters of the private use area."""
_XL: Final = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
_TOKENIZERS: Final = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
TOKENIZER_CLASS: Final = "PreTrainedTokenizerFast"
"""Reads `tokenizer.json` as it is; CLIP's own class makes its normalizer anew."""
_FIX: Final = "Pass an embedding that was trained for this model's family."


@dataclass(frozen=True)
class Embedding:
    """An embedding that fits the model.

    Attributes:
        file: its header.
        word: what stands for it in a prompt.
        tensors: the name of its tensor in the file, for each text encoder.
        vectors: the number of its vectors.
        replaces_word: whether the model knows the word already.
    """

    file: SafetensorsFile
    word: str
    tensors: Mapping[str, str]
    vectors: int
    replaces_word: bool

    @property
    def note(self) -> str:
        """One sentence that says how to use it."""
        replaced = ", and no longer for what the model knows by this word" if self.replaces_word else ""
        return f'The word "{self.word}" in a prompt stands for {self.file.path.name}{replaced}.'


def read(path: Path, word: str | None, folder: Path, pipeline: PipelineConfig) -> Embedding:
    """Read the header of an embedding, and check that it fits the model.

    Args:
        path: a `.safetensors` file.
        word: what stands for it in a prompt; by default the file's name without its suffix.
        folder: the model's folder, of which only configurations and tokenizers are read.
        pipeline: the model's configuration.

    Raises:
        InvalidRequest: the word cannot be used.
        ModelError: the file is damaged, is not an embedding, or belongs to another model.
    """
    file = safetensors_file.read(path)
    if not families_by_keys.is_embedding(file.shapes):
        kind = "a LoRA, not an embedding" if families_by_keys.is_lora(file.shapes) else "not an embedding"
        raise ModelError(f"{path} is {kind}.", fix="Pass a checkpoint as the source, and a LoRA with `loras=`.")
    file.check_numbers(file.shapes)
    tensors = _tensors_of(file, pipeline)
    counts = set()
    for component, name in tensors.items():
        width = pipeline_folder.read_json(folder / component / "config.json", "hidden_size")["hidden_size"]
        count, found = _matrix(file.shapes[name])
        if found != width:
            raise ModelError(
                f"{path} has vectors of {found} numbers, and the model's {component} reads {width}"
                f"{_families(found, width)}.",
                fix=_FIX,
            )
        counts.add(count)
    if len(counts) > 1 or counts == {0}:
        raise ModelError(f"{path} does not have the same number of vectors for both text encoders.", fix=_FIX)
    chosen = path.stem if word is None else word
    return Embedding(file, chosen, tensors, counts.pop(), _is_known(path, chosen, folder))


def check_together(embeddings: Sequence[Embedding], folder: Path) -> None:
    """Refuse two embeddings with the same word, and more vectors than a prompt has tokens.

    Raises:
        InvalidRequest: two words are equal but for their case.
        ModelError: an embedding does not fit a prompt.
    """
    words: set[str] = set()
    text = pipeline_folder.read_json(folder / "text_encoder" / "config.json", "max_position_embeddings")
    for each in embeddings:
        if each.word.lower() in words:
            raise InvalidRequest(
                f'Two embeddings have the name "{each.word}".', fix="Choose another name for one of them."
            )
        words.add(each.word.lower())
        if each.vectors > text["max_position_embeddings"] - 2:
            raise ModelError(f"{each.file.path} has {each.vectors} vectors, more than a prompt has tokens.", fix=_FIX)
    if sum(each.vectors for each in embeddings) > _LETTERS:
        raise InvalidRequest(f"The embeddings have more than {_LETTERS:,} vectors.", fix="Pass fewer embeddings.")


def add(embeddings: Sequence[Embedding], folder: Path, pipeline: PipelineConfig, progress: Progress) -> None:
    """Add the words to the tokenizers, and the vectors to the text encoders, of a folder.

    Args:
        embeddings: embeddings that fit the model.
        folder: the model's folder, whose tokenizers and text encoders are replaced.
        pipeline: the model's configuration.
        progress: called before each embedding.

    Raises:
        ModelError: a text encoder or tokenizer cannot be read.
    """
    for each in embeddings:
        vectors = "1 vector" if each.vectors == 1 else f"{each.vectors} vectors"
        progress(f'adding the word "{each.word}" ({vectors})')
    loaded = [each.file.tensors() for each in embeddings]
    index = dict(pipeline.index)
    for component in embeddings[0].tensors:
        tokenizer = _TOKENIZERS[component]
        first = _add_words(embeddings, folder / tokenizer)
        rows = [tensors[each.tensors[component]] for each, tensors in zip(embeddings, loaded, strict=True)]
        _add_rows(rows, first, folder / component, index[component][1])
        index[tokenizer] = ["transformers", TOKENIZER_CLASS]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _tensors_of(file: SafetensorsFile, pipeline: PipelineConfig) -> dict[str, str]:
    names = file.shapes
    is_xl = "text_encoder_2" in pipeline.index
    if {"clip_l", "clip_g"} <= names.keys():
        if not is_xl:
            raise ModelError(f"{file.path} is an embedding for Stable Diffusion XL, and the model is not.", fix=_FIX)
        return dict(_XL)
    if is_xl:
        raise ModelError(
            f"{file.path} is not an embedding for Stable Diffusion XL, which has two matrices: clip_l and clip_g.",
            fix=_FIX,
        )
    candidates = [name for name, shape in names.items() if len(shape) in (1, 2)]
    if len(candidates) != 1:
        raise ModelError(f"{file.path} has {len(names)} tensors, not one: {', '.join(sorted(names))}.", fix=_FIX)
    return {"text_encoder": candidates[0]}


def _matrix(shape: Shape) -> Shape:
    return (1, *shape) if len(shape) == 1 else shape


def _families(found: int, width: int) -> str:
    one, other = families_by_keys.WIDTHS.get(found), families_by_keys.WIDTHS.get(width)
    names = families_by_keys.NAMES
    return f": it is for {names[one]}, and the model is {names[other]}" if one and other else ""


def _is_known(path: Path, word: str, folder: Path) -> bool:
    """Whether a word is one token of the model's vocabulary.

    Raises:
        InvalidRequest: it is not one word.
    """
    if not word or re.search(r"\s", word) or not word.isprintable():
        raise InvalidRequest(
            f'"{word}" cannot stand for {path} in a prompt: it is not one word.',
            fix="Choose another name for it, such as one without spaces.",
        )
    encoding = _read_tokenizer(folder / "tokenizer").backend_tokenizer.encode(word, add_special_tokens=False)
    return len(encoding.ids) == 1


def _read_tokenizer(folder: Path) -> Any:
    import transformers

    try:
        return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{folder} cannot be read: {str(error).splitlines()[0][:200]}", fix="Download or save the model again."
        ) from error


def _add_words(embeddings: Sequence[Embedding], folder: Path) -> int:
    """Add the words to a tokenizer and return the id of the first new token."""
    from tokenizers import AddedToken, Regex, normalizers

    tokenizer = _read_tokenizer(folder)
    backend = tokenizer.backend_tokenizer
    first = len(tokenizer)
    letters = iter(range(_FIRST_LETTER, _FIRST_LETTER + _LETTERS))
    replacements = []
    for each in embeddings:
        tokens = "".join(chr(next(letters)) for _ in range(each.vectors))
        replacements.append((len(each.word), normalizers.Replace(Regex(_whole_word(each.word)), tokens)))
        tokenizer.add_tokens([AddedToken(token, normalized=True) for token in tokens])
    longest_first = [replace for _, replace in sorted(replacements, key=lambda item: -item[0])]
    backend.normalizer = normalizers.Sequence([*longest_first, backend.normalizer])
    with output_folder.library_writes(folder.name):
        tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8")) | {"tokenizer_class": TOKENIZER_CLASS}
    settings.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return first


def _whole_word(word: str) -> str:
    """Return the pattern of a word in either case: "cat" must not change "concatenate"."""
    before, after = (r"(?<!\w)" if word[0].isalnum() else "", r"(?!\w)" if word[-1].isalnum() else "")
    return f"(?i){before}{re.escape(word)}{after}"


def _add_rows(rows: Sequence[Any], first: int, folder: Path, class_name: str) -> None:
    import torch
    import transformers

    model = getattr(transformers, class_name).from_pretrained(folder, use_safetensors=True, local_files_only=True)
    matrix = torch.cat([row[None] if row.ndim == 1 else row for row in rows])
    table = model.resize_token_embeddings(max(first + len(matrix), model.config.vocab_size), mean_resizing=False)
    with torch.no_grad():
        table.weight[first : first + len(matrix)] = matrix.to(table.weight.dtype)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    with output_folder.library_writes(folder.name):
        model.save_pretrained(folder, safe_serialization=True)
