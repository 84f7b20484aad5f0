"""From a prompt to tokens, and what of it the model did not understand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_MOST_WORDS_SHOWN = 12


class PromptTokenizer:
    """A fixed number of token ids for each prompt, and warnings about what was lost.

    Args:
        tokenizer: adds the start and end tokens itself; its truncation and padding are replaced.
        max_length: tokens of a prompt, start and end included.
        pad_id: what fills up a short prompt.
        vocabulary: every word the model was trained on, lower case; empty if that is not known.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, pad_id: int, vocabulary: Sequence[str] = ()) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._pad_id = pad_id
        self._vocabulary = frozenset(vocabulary)

    def ids(self, prompt: str) -> NDArray[np.int64]:
        """Token ids of shape (1, max_length): cut in front of the end token, or filled up behind it."""
        ids = self._tokenizer.encode(prompt).ids
        if len(ids) > self._max_length:
            ids = [*ids[: self._max_length - 1], ids[-1]]
        ids += [self._pad_id] * (self._max_length - len(ids))
        return np.array([ids], dtype=np.int64)

    def warnings(self, prompt: str, *, what: str = "prompt") -> list[str]:
        """Sentences about words behind the tokenizer's limit and words outside the vocabulary.

        Args:
            what: what the sentences call it, `prompt` or `negative prompt`.
        """
        kept, dropped = self._split(prompt)
        found = []
        if dropped:
            place = f'was cut after "{kept[-1]}"' if kept else "was cut within its first word"
            words = f"{len(dropped)} word" + ("s were" if len(dropped) > 1 else " was")
            found.append(f"The {what} {place}: the model reads {self._max_length - 2} tokens, {words} left out.")
        if unknown := self._unknown(" ".join(kept)):
            shown, more = unknown[:_MOST_WORDS_SHOWN], len(unknown) - _MOST_WORDS_SHOWN
            listed = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
            found.append(f"The model was not trained on these words of the {what}: {listed}.")
        return found

    def _split(self, prompt: str) -> tuple[list[str], list[str]]:
        """The prompt's words, those that are read whole and the rest."""
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
