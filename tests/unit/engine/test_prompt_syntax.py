"""The prompt syntax of AUTOMATIC1111's web UI (engine/prompt_syntax.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdiff.engine import prompt_syntax


def weights(prompt: str) -> list[tuple[str, float]]:
    """Return the segments that are not empty, with rounded weights."""
    return [(each.text, round(each.weight, 4)) for each in prompt_syntax.parse(prompt) if each.text]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1)]),
        ("", []),
        ("a (red) cat", [("a ", 1), ("red", 1.1), (" cat", 1)]),
        ("a [red] cat", [("a ", 1), ("red", 0.9091), (" cat", 1)]),
        ("((a)) [[b]]", [("a", 1.21), (" ", 1), ("b", 0.8264)]),
        ("(red:1.3)(hat:.5)", [("red", 1.3), ("hat", 0.5)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1), (" c", 0.5)]),
        ("(red: 1.5 ) (x:-1)", [("red", 1.5), (" ", 1), ("x", -1)]),
        ("an (unclosed [bracket", [("an ", 1), ("unclosed ", 1.1), ("bracket", 1)]),
        ("a ) and ] alone :1.2)", [("a ) and ] alone :1.2)", 1)]),
        (r"\(a\) \[b\] \\ \n", [(r"(a) [b] \ \n", 1)]),
        ("16:9, (4:3)", [("16:9, ", 1), ("4", 3)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("()[]", []),
        ("a <lora:x:0.8> (cat:1.2) <lyco:y>", [("a  ", 1), ("cat", 1.2), (" ", 1)]),
        ("a BREAKFAST, OUTBREAK", [("a BREAKFAST, OUTBREAK", 1)]),
    ],
)
def test_weights(prompt: str, expected: list[tuple[str, float]]) -> None:
    """Brackets, weights and escapes have the meaning that the web UI gives them; what is incomplete is text."""
    assert weights(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a BREAK b", [("a ", 0), ("b", 1)]),
        ("BREAK a", [("a", 1)]),
        ("a BREAK", [("a ", 0), ("", 1)]),
        ("a BREAK BREAK b", [("a ", 0), ("b", 2)]),
        ("(a BREAK b)", [("a ", 0), ("b", 1), ("", 1)]),
    ],
)
def test_breaks(prompt: str, expected: list[tuple[str, int]]) -> None:
    """BREAK is a word of its own in capitals; brackets may enclose it."""
    assert [(each.text, each.breaks) for each in prompt_syntax.parse(prompt)] == expected


@given(st.text(alphabet="ab ()[]:1.\\,<>|", max_size=40))
def test_every_text_is_read(prompt: str) -> None:
    """Whatever the brackets, nothing but syntax gets lost, and the number of breaks never decreases."""
    segments = prompt_syntax.parse(prompt)
    assert segments
    read = "".join(segment.text for segment in segments)
    assert [character for character in prompt if character in "ab,"] == [c for c in read if c in "ab,"]
    assert [segment.breaks for segment in segments] == sorted(segment.breaks for segment in segments)
    assert (
        prompt_syntax.without_syntax(prompt).split() == prompt_syntax.without_syntax(prompt).split(" ")
        or not read.strip()
    )


def test_what_has_no_effect_is_named() -> None:
    """Networks, prompt editing, alternation and composition are named; ordinary prompts have no warnings."""
    assert prompt_syntax.warnings("a (cat:1.2), [hat], 16:9, r and b") == []
    (about,) = prompt_syntax.warnings("a cat <lora:x:1> <lora:x:1> <hypernet:y>", what="negative prompt")
    assert about.startswith("<lora:x:1>, <hypernet:y> in the negative prompt has no effect")
    assert len(prompt_syntax.warnings("[cat:dog:0.5] [a|b] x AND y [hat:10]")) == 3
    assert prompt_syntax.without_syntax("a (red:1.3) cat BREAK [hat] <lora:x:1>") == "a red cat hat"
