"""Encoding warnings and timings as header values (protocol/headers.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdiff.printable import printable
from lambdiff.protocol import headers


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=30))
def test_warnings_are_one_bounded_line_of_ascii(warnings: list[str]) -> None:
    """The value is printable ASCII of limited length, and the warnings that fit into it read back."""
    value = headers.encode_warnings(warnings)
    assert len(value) <= headers.MAX_WARNINGS_HEADER
    assert all(" " <= character <= "~" for character in value.replace("\x7f", ""))
    kept = headers.decode_warnings(value)
    assert kept == [printable(warning) for warning in warnings[: len(kept)]]


@pytest.mark.parametrize("value", [None, "", "no json", "{}", "[1]", "[" * 100_000])
def test_an_unreadable_warnings_header_is_ignored(value: str | None) -> None:
    """A header that is not a JSON list of strings counts as no warnings."""
    assert headers.decode_warnings(value) == []


def test_timings_read_back() -> None:
    """Timings in seconds are written in milliseconds and read back; entries of other servers are ignored."""
    value = headers.encode_timings({"encode": 0.0123, "denoise": 1.5})
    assert value == "encode;dur=12.3, denoise;dur=1500.0"
    assert headers.decode_timings(value) == pytest.approx({"encode": 0.0123, "denoise": 1.5})
    assert headers.decode_timings('cache;desc="x", a;dur=oops, b;dur=1') == {"b": 0.001}
