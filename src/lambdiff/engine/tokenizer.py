"""Turn a prompt into token ids, with warnings about words that the model does not read or know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from lambdiff.protocol.contract import Generation

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_MAX_WORDS_SHOWN = 12


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

    def warnings_for(self, generation: Generation, *, guided: bool) -> list[str]:
        """Return the warnings for a request's prompts; without guidance, the negative prompt has no effect."""
        warnings = self.warnings(generation.prompt)
        if guided:
            warnings += self.warnings(generation.negative_prompt, what="negative prompt")
        return warnings

    def warnings(self, prompt: str, *, what: str = "prompt") -> list[str]:
        """Return warnings about words beyond the token limit and words outside the vocabulary.

        Args:
            prompt: the text.
            what: what the warnings call it, `prompt` or `negative prompt`.
        """
        read, dropped = self._split(prompt)
        warnings = []
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
