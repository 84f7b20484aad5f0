"""Byte order marks at the beginning of text, as Windows writes them (The Unicode Standard 16.0, section 23.8)."""

from __future__ import annotations

import codecs
from typing import Final

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # starts with the mark of UTF-16, hence before it
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def split(content: bytes) -> tuple[str | None, bytes]:
    """Return the encoding that a byte order mark names, None without one, and the bytes behind the mark.

    Example:
        >>> split(b"\\xff\\xfea\\0")
        ('utf-16-le', b'a\\x00')
        >>> split(b"a cat")
        (None, b'a cat')
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding, content[len(mark) :]
    return None, content
