"""The prompt syntax of AUTOMATIC1111's web UI: weighted words, `BREAK`, and what is not supported of the rest.

    (word) [word]        1.1 times, or 1 / 1.1 times, the attention; brackets can be nested
    (word:1.3)           1.3 times
    \\( \\) \\[ \\] \\\\       the character itself
    BREAK                what follows begins a new piece, see `tokenizer.py`
    <lora:name:1>        left out: LoRAs are merged into a model when it is baked

Source: https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Final

_ROUND: Final = 1.1
_SQUARE: Final = 1 / 1.1
_TOKEN: Final = re.compile(
    r"""
    \\(?P<escaped>[()\[\]\\])
    | (?P<open>[(\[])
    | :\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)
    | (?P<close>[)\]])
    | \s*\b(?P<break>BREAK)\b\s*
    | (?P<text>[^\\()\[\]:B]+ | .)
    """,
    re.VERBOSE | re.DOTALL,
)
_NETWORK: Final = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
_UNSUPPORTED: Final = {
    "Prompt editing such as [cat:dog:0.5]": re.compile(r"\[[^\[\]]*:[^\[\]]*:?\s*[\d.]+\s*\]"),
    "Alternation such as [cat|dog]": re.compile(r"\[[^\[\]]*\|[^\[\]]*\]"),
    "Composition with AND": re.compile(r"\bAND\b"),
}


@dataclass
class Segment:
    """A piece of text with one weight.

    Attributes:
        text: without the syntax.
        weight: the factor of its tokens' embeddings.
        breaks: the number of `BREAK`s before it.
    """

    text: str
    weight: float = 1.0
    breaks: int = 0


def parse(prompt: str) -> list[Segment]:
    """Split a prompt into segments; the last one may be empty.

    A bracket that is never closed applies up to the end, as in the web UI.

    Example:
        >>> [(segment.text, segment.weight) for segment in parse("a (red:1.3) cat")]
        [('a ', 1.0), ('red', 1.3), (' cat', 1.0)]
    """
    segments: list[Segment] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, factor: float) -> None:
        for segment in segments[start:]:
            segment.weight *= factor

    breaks = 0
    for token in _TOKEN.finditer(_NETWORK.sub("", prompt)):
        if token["open"]:
            opened[token["open"]].append(len(segments))
        elif token["weight"] and opened["("]:
            multiply(opened["("].pop(), float(token["weight"]))
        elif token["close"] == ")" and opened["("]:
            multiply(opened["("].pop(), _ROUND)
        elif token["close"] == "]" and opened["["]:
            multiply(opened["["].pop(), _SQUARE)
        elif token["break"]:
            breaks += 1
        else:
            segments.append(Segment(token["escaped"] or token.group(), breaks=breaks))
    for bracket, factor in (("(", _ROUND), ("[", _SQUARE)):
        for start in opened[bracket]:
            multiply(start, factor)
    segments.append(Segment("", breaks=breaks))
    return _merged(segments)


def without_syntax(prompt: str) -> str:
    """Return the text that the model reads."""
    pieces = itertools.groupby(parse(prompt), lambda segment: segment.breaks)
    return " ".join(word for _, piece in pieces for word in "".join(segment.text for segment in piece).split())


def warnings(prompt: str, *, what: str = "prompt") -> list[str]:
    """Name what the prompt contains of the web UI's syntax that has no effect, or another one than there.

    Args:
        prompt: the text.
        what: what the warnings call it, `prompt` or `negative prompt`.
    """
    found = [about_networks(prompt, what=what)]
    text = _NETWORK.sub("", prompt)
    found += [
        f"{name} in the {what} is not supported." for name, pattern in _UNSUPPORTED.items() if pattern.search(text)
    ]
    return [warning for warning in found if warning]


def about_networks(prompt: str, *, what: str = "prompt") -> str:
    """Return a warning if the prompt names LoRAs or other additional networks, else an empty text."""
    networks = list(dict.fromkeys(_NETWORK.findall(prompt)))
    if not networks:
        return ""
    return f"{', '.join(networks)} in the {what} has no effect: LoRAs are merged into a model when it is baked."


def _merged(segments: list[Segment]) -> list[Segment]:
    """Join neighbors of the same weight, so that their words are tokenized together."""
    merged: list[Segment] = []
    for segment in segments:
        if merged and (merged[-1].weight, merged[-1].breaks) == (segment.weight, segment.breaks):
            merged[-1].text += segment.text
        else:
            merged.append(segment)
    return merged
