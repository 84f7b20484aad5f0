"""Turn a prompt into token ids, with warnings about words that the model does not read or know.

With the syntax `plain`, a prompt is cut at the model's limit. With `a1111`, it is split into pieces, as AUTOMATIC1111's
web UI does it: each is encoded by itself, its embeddings are multiplied with their weights, and the denoiser gets all
pieces side by side. A piece that is full ends after its last comma, unless `_BACKTRACK` tokens or more follow.

Source: `process_texts` in https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/master/modules/sd_hijack_clip.py
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from lambdiff.engine import prompt_syntax
from lambdiff.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from lambdiff.protocol.contract import Generation, PromptSyntax

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_MAX_WORDS_SHOWN = 12
_BACKTRACK: Final = 20
_NO_MEAN: Final = 1e-5
"""Relative to the mean of the absolute values."""
MAX_PIECES: Final = 16
"""The time and the memory of each denoising step grow with the number of pieces."""


@dataclass(frozen=True, eq=False)
class Piece:
    """What the text encoder reads at once.

    Attributes:
        ids: token ids of shape (1, max_length), with start, end and padding.
        weights: the factors of their embeddings, of the same shape; None if all of them are 1.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

    def weigh(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Multiply embeddings of shape (1, max_length, width) with the weights, and restore their mean."""
        if self.weights is None:
            return embeddings
        weighted = embeddings * self.weights[..., None]
        before, after = embeddings.mean(), weighted.mean()
        # Without this, the rounding error of a mean of 0 would become a factor.
        has_mean = min(abs(before), abs(after)) > _NO_MEAN * np.abs(embeddings).mean()
        return weighted * (before / after) if has_mean else weighted


class PromptTokenizer:
    """Turns each prompt into a fixed number of token ids.

    Args:
        tokenizer: must add the start and end tokens itself; its truncation and padding are turned off.
        max_length: the number of tokens of a prompt, including start and end.
        pad_id: the id that pads short prompts.
        vocabulary: every word that the model was trained on, in lower case; empty if unknown.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, pad_id: int, vocabulary: Sequence[str] = ()) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._pad_id = pad_id
        self._vocabulary = frozenset(vocabulary)

    def ids(self, prompt: str) -> NDArray[np.int64]:
        """Return token ids of shape (1, max_length), truncated before the end token or padded after it."""
        ids = self._tokenizer.encode(prompt).ids
        if len(ids) > self._max_length:
            ids = [*ids[: self._max_length - 1], ids[-1]]
        ids += [self._pad_id] * (self._max_length - len(ids))
        return np.array([ids], dtype=np.int64)

    def pieces(self, prompt: str, syntax: PromptSyntax) -> list[Piece]:
        """Split a prompt into what the text encoder reads at once; there is at least one piece.

        Raises:
            InvalidRequest: there are more than `MAX_PIECES`.
        """
        if syntax == "plain":
            return [Piece(self.ids(prompt))]
        capacity = self._max_length - 2
        comma = self._tokenizer.encode(",", add_special_tokens=False).ids
        pieces = _split_into_pieces(self._weighted_tokens(prompt), capacity, comma[0] if comma else None)
        if len(pieces) > MAX_PIECES:
            detail = f"has {len(pieces)} pieces of {capacity} tokens, more than {MAX_PIECES}"
            raise InvalidRequest(f"The prompt {detail}.", problems=[("prompt", detail)])
        return [self._piece(tokens) for tokens in pieces]

    def padded(self, pieces: list[Piece], count: int) -> list[Piece]:
        """Append empty pieces up to `count`, so that a prompt and a negative prompt are equally long."""
        return pieces + [self._piece([])] * (count - len(pieces))

    def warnings_for(self, generation: Generation, *, guided: bool) -> list[str]:
        """Return the warnings for a request's prompts; without guidance, the negative prompt has no effect."""
        warnings = self.warnings(generation.prompt, generation.prompt_syntax)
        if guided:
            warnings += self.warnings(generation.negative_prompt, generation.prompt_syntax, what="negative prompt")
        return warnings

    def warnings(self, prompt: str, syntax: PromptSyntax = "plain", *, what: str = "prompt") -> list[str]:
        """Return warnings about words beyond the token limit, words outside the vocabulary, and unsupported syntax.

        Args:
            prompt: the text.
            syntax: how it is read.
            what: what the warnings call it, `prompt` or `negative prompt`.
        """
        if syntax == "a1111":
            warnings = prompt_syntax.warnings(prompt, what=what)
            read = prompt_syntax.without_syntax(prompt).split()
            dropped: list[str] = []
        else:
            warnings = [about] if (about := prompt_syntax.about_networks(prompt, what=what)) else []
            read, dropped = self._split(prompt)
        if dropped:
            where = f'after "{read[-1]}"' if read else "within its first word"
            words = "1 word was" if len(dropped) == 1 else f"{len(dropped)} words were"
            limit = self._max_length - 2
            warnings.append(f"The {what} was cut {where}: the model reads {limit} tokens, so {words} dropped.")
        if unknown := self._unknown(" ".join(read)):
            shown, more = unknown[:_MAX_WORDS_SHOWN], len(unknown) - _MAX_WORDS_SHOWN
            words = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
            warnings.append(f"The model was not trained on these words of the {what}: {words}.")
        return warnings

    def _weighted_tokens(self, prompt: str) -> list[list[_Token]]:
        """Return the tokens between the `BREAK`s."""
        segments = prompt_syntax.parse(prompt)
        sections: list[list[_Token]] = [[] for _ in range(1 + segments[-1].breaks)]
        for segment in segments:
            ids = self._tokenizer.encode(segment.text, add_special_tokens=False).ids
            sections[segment.breaks] += [_Token(token, segment.weight) for token in ids]
        return sections

    def _piece(self, tokens: list[_Token]) -> Piece:
        start, end = self._tokenizer.encode("").ids
        padding = [_Token(self._pad_id)] * (self._max_length - 2 - len(tokens))
        all_tokens = [_Token(start), *tokens, _Token(end), *padding]
        weights = np.array([[token.weight for token in all_tokens]], np.float32)
        return Piece(
            np.array([[token.id for token in all_tokens]], np.int64), None if (weights == 1).all() else weights
        )

    def _split(self, prompt: str) -> tuple[list[str], list[str]]:
        """Split a prompt into the words that the model reads completely and the others."""
        words = list(re.finditer(r"\S+", prompt))
        encoding = self._tokenizer.encode(prompt)
        if len(encoding.ids) <= self._max_length:
            return [word.group() for word in words], []
        end = encoding.offsets[self._max_length - 2][1]
        return [w.group() for w in words if w.end() <= end], [w.group() for w in words if w.end() > end]

    def _unknown(self, prompt: str) -> list[str]:
        if not self._vocabulary:
            return []
        words = (re.sub("['\u2019]s?$", "", word) for word in _WORD.findall(prompt.lower()))
        return list(dict.fromkeys(word for word in words if word not in self._vocabulary))


class _Token(NamedTuple):
    id: int
    weight: float = 1.0


def _split_into_pieces(sections: list[list[_Token]], capacity: int, comma: int | None) -> list[list[_Token]]:
    """Distribute tokens over pieces. A piece never continues after a `BREAK`, which may leave it empty."""
    pieces: list[list[_Token]] = []
    for tokens in sections:
        piece: list[_Token] = []
        after_comma = 0
        """Where the piece can be split; 0 if it has no comma."""
        for token in tokens:
            if len(piece) == capacity:
                keep = after_comma if token.id != comma and capacity - after_comma < _BACKTRACK else 0
                pieces.append(piece[: keep or capacity])
                piece = piece[keep:] if keep else []
                after_comma = 0
            piece.append(token)
            if token.id == comma:
                after_comma = len(piece)
        pieces.append(piece)
    # Nothing follows the last `BREAK`.
    return pieces[:-1] if len(pieces) > 1 and not pieces[-1] else pieces
