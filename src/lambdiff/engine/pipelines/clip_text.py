"""A CLIP text encoder with its tokenizer, as the families with CLIP use it: pieces of a prompt to weighted embeddings.

    text encoder   input_ids (1, tokens) int64      -> hidden states (1, tokens, width)
                                                       and, if it has a projection, a pooled vector (1, n)

The tokenizer's file is read with the `tokenizers` package.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np

from lambdiff.engine.manifest import Text
from lambdiff.engine.pipelines.base import Array
from lambdiff.engine.runtime import Part, Runtime, Shape
from lambdiff.engine.tokenizer import Piece, PromptTokenizer
from lambdiff.protocol.contract import PromptSyntax

CACHED_PROMPTS: Final = 32
"""How many embeddings of prompts, or of their pieces, are cached, including the empty negative prompt."""
_ONE_PROMPT: Final = Shape(1)


class ClipText:
    """Embeds prompts with one text encoder.

    Args:
        folder: a baked folder.
        text: how its prompts are read.
        runtime: runs the text encoder.
        part: the name of the text encoder's files.
        tokenizer: the name of the tokenizer's file.
    """

    tokenizer: PromptTokenizer
    _run: Callable[[tuple[int, ...]], tuple[Array, ...]]

    def __init__(
        self,
        folder: Path,
        text: Text,
        runtime: Runtime,
        *,
        part: str = "text_encoder",
        tokenizer: str = "tokenizer.json",
    ) -> None:
        self.part = Part(part)
        self._file = folder / tokenizer
        self._text = text
        self._runtime = runtime

    @property
    def shapes(self) -> dict[str, Collection[Shape]]:
        """The shape of every call, by part."""
        return {self.part.name: [_ONE_PROMPT]}

    def load(self) -> None:
        """Read the tokenizer.

        Raises:
            Exception: the tokenizer's own, if its file is missing or damaged.
        """
        self.tokenizer = _read_tokenizer(self._file, self._text)
        # Not a bound method: in a reference cycle, the weights would stay in memory after the engine is dropped.
        self._run = lru_cache(CACHED_PROMPTS)(partial(_run_text_encoder, self._runtime, self.part.name))

    def pieces(self, prompt: str, syntax: PromptSyntax) -> list[Piece]:
        """Split a prompt into what the text encoder reads at once; see `PromptTokenizer.pieces`."""
        return self.tokenizer.pieces(prompt, syntax)

    def embed(self, pieces: Sequence[Piece], count: int) -> Array:
        """Return the weighted hidden states of pieces, followed by empty ones up to `count`, (1, tokens, width)."""
        padded = self.tokenizer.padded(list(pieces), count)
        return np.concatenate([piece.weigh(self._encode(piece)[0]) for piece in padded], axis=1)

    def pool(self, pieces: Sequence[Piece]) -> Array:
        """Return the pooled vector of the first piece, (1, n), without its weights, as the web UI does."""
        return self._encode(pieces[0])[1]

    def _encode(self, piece: Piece) -> tuple[Array, ...]:
        return self._run(tuple(piece.ids[0]))


def _run_text_encoder(runtime: Runtime, part: str, ids: tuple[int, ...]) -> tuple[Array, ...]:
    encode = runtime.serve(part, [_ONE_PROMPT])
    return encode({"input_ids": np.array([ids], np.int64)})


def _read_tokenizer(file: Path, text: Text) -> PromptTokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    pad_id = (tokenizer.padding or {"pad_id": 0})["pad_id"]
    return PromptTokenizer(tokenizer, max_length=text.max_length, pad_id=pad_id, vocabulary=text.vocabulary)
