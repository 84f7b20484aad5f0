"""Byte order marks of the Unicode encodings."""

from __future__ import annotations

import pytest

from lambdiff import byte_order_marks


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_each_encoding_is_found(encoding: str) -> None:
    """The mark names the encoding, and the rest is decoded with it."""
    found, content = byte_order_marks.split("\ufeffa cat".encode(encoding))
    assert (found, content.decode(encoding)) == (encoding, "a cat")


@pytest.mark.parametrize("content", [b"", b"a cat", b"\xff", b"\xef\xbb"])
def test_text_without_a_mark_stays_as_it_is(content: bytes) -> None:
    """Without a complete mark no encoding is named."""
    assert byte_order_marks.split(content) == (None, content)
