"""CLIP's tokenizer, which every Stable Diffusion uses and no checkpoint contains.

The merges in `clip_merges.txt.gz` (208 kB) are the first 48,894 of OpenAI's `bpe_simple_vocab_16e6.txt.gz`, taken from
the package open-clip-torch 3.3.0 (MIT license, see NOTICE); the vocabulary follows from them.
"""

from __future__ import annotations

import functools
import gzip
from importlib import resources
from typing import Any, Final

from lambdiff.bake import __name__ as _PACKAGE

TOKENS: Final = 49_408
MAX_LENGTH: Final = 77
_START: Final = "<|startoftext|>"
_END: Final = "<|endoftext|>"


def make(*, pad_token: str = _END) -> Any:
    """Return the tokenizer.

    Args:
        pad_token: what fills up short prompts: the end token for CLIP ViT-L, and `!` for OpenCLIP's models.

    Example:
        >>> make()("a photo of an astronaut").input_ids
        [49406, 320, 1125, 539, 550, 18376, 49407]
    """
    from transformers import CLIPTokenizer

    merges = _merges()
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), _START, _END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH, pad_token=pad_token)


@functools.cache
def _merges() -> list[tuple[str, str]]:
    compressed = (resources.files(_PACKAGE) / "clip_merges.txt.gz").read_bytes()
    return [(left, right) for left, right in map(str.split, gzip.decompress(compressed).decode().splitlines())]


def _byte_letters() -> list[str]:
    """Return the letter that stands for each byte, in the order of the vocabulary: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [256 + index for index in range(256 - len(printable))]
    return [chr(code) for code in (*printable, *others)]
