"""Alternatives in prompts: `a {red|green} {cat|dog}` stands for four prompts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

from lambdiff.errors import MissingExtra
from lambdiff.protocol.validation import raise_for

MAX_PROMPTS: Final = 10_000
"""Maximum number of prompts that one stands for."""


def expand(prompt: str) -> Iterable[str]:
    """Return every prompt that a prompt with alternatives stands for, in the order of its alternatives.

    The syntax is that of dynamicprompts, as other programs for diffusion models have it. Wildcards, which are files
    with alternatives, are not read.

    Raises:
        InvalidRequest: it cannot be parsed, or stands for too many prompts.
        MissingExtra: the `batch` extra is not installed.

    Example:
        >>> expand("a {red|green} {cat|dog}")
        ['a red cat', 'a red dog', 'a green cat', 'a green dog']
    """
    if "{" not in prompt:
        return [prompt]
    try:
        from dynamicprompts.generators import CombinatorialPromptGenerator
        from dynamicprompts.wildcards import WildcardManager
        from pyparsing import ParseBaseException
    except ImportError:
        raise MissingExtra("What expands alternatives in prompts", "batch") from None
    try:
        generator = CombinatorialPromptGenerator(WildcardManager())
        prompts = list(itertools.islice(generator.generate(prompt, MAX_PROMPTS + 1), MAX_PROMPTS + 1))
    except (ParseBaseException, ValueError, RecursionError):
        prompts = []
    if not prompts:
        raise_for([("prompt", "has alternatives that cannot be read: `{a|b|c}` is what they look like")])
    if len(prompts) > MAX_PROMPTS:
        raise_for([("prompt", f"stands for more than {MAX_PROMPTS:,} prompts")])
    return prompts
