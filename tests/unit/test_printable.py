"""Foreign text made safe to print (printable.py)."""

from __future__ import annotations

import json
import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdiff.errors import MAX_TEXT, EndpointFailed, LambdiffError
from lambdiff.printable import printable, printable_json

ATTACKS = {
    "color": "\x1b[31mred",
    "title": "\x1b]0;title\x07",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "C1 control sequence": "\x9b2J",
    "delete": "\x7f",
    "backspaces": "yes\b\b\bno",
    "overwritten line": "bad\rgood",
    "bidirectional override": "\u202egnp.exe",
    "bidirectional isolate": "\u2066a\u2069",
    "right-to-left mark": "\u200f",
    "zero-width space": "\u200b",
    "byte order mark": "\ufeff",
    "line separator": "a\u2028b",
    "lone surrogate": "\ud800",
    "tag": "\U000e0041",
    "NUL": "\0",
}


def acts_on_a_terminal(text: str) -> bool:
    """Whether a text contains a control, format or surrogate character, or a separator of lines."""
    return any(unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for each in text)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_what_a_terminal_would_act_on_is_escaped(attack: str) -> None:
    """No control character of any kind is left, and the escapes show which it was."""
    shown = printable(f"before {attack} after")
    assert not acts_on_a_terminal(shown)
    assert "\\" in shown
    assert shown.isascii()


@pytest.mark.parametrize(
    "text", ["Größe", "猫", "кот", "10\u00a0%", "C:\\cats", "👩\u200d💻", "क\u200dष", "日\u3000本"]
)
def test_other_languages_stay_as_they_are(text: str) -> None:
    """Letters, spaces and emoji of any language are not escaped."""
    assert printable(text) == text


def test_long_texts_are_cut() -> None:
    """Neither a long text nor one that grows by escaping exceeds the limit."""
    assert printable("a" * 10_000_000, 10) == "a" * 10 + "..."
    assert len(printable("\x1b" * 1_000, 100)) == 103
    assert printable("a" * 10, 10) == "a" * 10


def test_line_breaks_stay_on_demand() -> None:
    """With `multiline=True`, line breaks of all systems become line feeds, and tabs stay."""
    assert printable("a\r\nb\rc\td", multiline=True) == "a\nb\nc\td"
    assert printable("a\n\x1b", multiline=True) == "a\n\\x1b"


@given(st.text(st.characters(), max_size=300), st.integers(1, 300))
def test_any_text_is_safe(text: str, limit: int) -> None:
    """Whatever the text, what is printed has no control character, fits the limit, and can be encoded."""
    shown = printable(text, limit)
    assert not acts_on_a_terminal(shown.replace("\u200c", "").replace("\u200d", ""))
    assert len(shown) <= limit + 3
    shown.encode()


VALUES = st.dictionaries(st.text(max_size=5), st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9)))


@given(VALUES)
def test_json_keeps_its_value(value: object) -> None:
    """JSON is escaped without changing its value."""
    shown = printable_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(shown) == value
    assert not acts_on_a_terminal(shown.replace("\n", ""))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_errors_are_safe_to_print(attack: str) -> None:
    """An error that quotes foreign text shows it escaped, also in a notebook's traceback and after pickling."""
    error = EndpointFailed(f"It says {attack}.", fix=f"Ask {attack}.")
    for shown in (
        error.message,
        error.fix,
        str(error),
        repr(error),
        *error.args,
        str(pickle.loads(pickle.dumps(error))),  # noqa: S301
    ):
        assert not acts_on_a_terminal(shown.replace("\n", ""))


def test_errors_are_cut() -> None:
    """An error that quotes a long text stays short."""
    assert len(str(LambdiffError("x" * 1_000_000, fix="y" * 1_000_000))) <= 2 * MAX_TEXT + 10
