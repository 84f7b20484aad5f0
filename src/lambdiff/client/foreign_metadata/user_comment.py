"""Decode EXIF's UserComment, whose first eight bytes should name its encoding (Exif 2.32, section 4.6.5).

Programs disagree about the byte order of `UNICODE`, some store UTF-8 or UTF-32 behind it, and others store no encoding
at all.
The first decoding is the one that the standard and the byte order of the EXIF data demand; a reader that cannot use it
tries the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, Literal

from lambdiff import byte_order_marks

_PREFIX: Final = 8
_JIS: Final = ("iso2022_jp", "iso2022_jp_2004", "utf-8", "euc_jp", "cp932")


def decodings(value: bytes, byte_order: Literal["little", "big"]) -> Iterator[str]:
    """Yield the texts that a UserComment may stand for, the most likely one first, without padding.

    Args:
        value: the field's bytes.
        byte_order: of the EXIF data.

    Example:
        >>> next(decodings(b"UNICODE\\0" + "Катя".encode("utf-16-le"), "little"))
        'Катя'
    """
    encodings: tuple[str, ...]
    name = value[:_PREFIX].rstrip(b"\0 ").upper()
    utf16 = ("utf-16-le", "utf-16-be") if byte_order == "little" else ("utf-16-be", "utf-16-le")
    content = value[_PREFIX:]
    if name == b"UNICODE":
        encodings = (*utf16, "utf-8")
    elif name == b"JIS":
        encodings = _JIS
    else:
        if name not in (b"", b"ASCII"):
            content = value  # no encoding is named
        # NUL between characters is a sign of UTF-16, which can be valid UTF-8.
        encodings = (*utf16, "utf-8") if b"\0" in content.rstrip(b"\0") else ("utf-8", *utf16)
        encodings = (*encodings, "cp1252", "latin-1")
    marked, content = byte_order_marks.split(content)
    if marked:
        encodings = (marked, *encodings)
    encodings = (*_utf32(content), *encodings)
    seen = set()
    for encoding in encodings:
        even = content[: len(content) // 2 * 2] if encoding.startswith("utf-16") else content
        with contextlib.suppress(UnicodeDecodeError):
            decoded = even.decode(encoding).rstrip("\0")
            if decoded not in seen:
                seen.add(decoded)
                yield decoded


def _utf32(content: bytes) -> tuple[str, ...]:
    """Return the encoding if this is UTF-32: every fourth byte is 0, and one beside it, as NUL in UTF-16."""
    if len(content) < 8 or len(content) % 4:
        return ()
    for encoding, high, plane in (("utf-32-le", 3, 2), ("utf-32-be", 0, 1)):
        if not any(content[high::4]) and max(content[plane::4]) <= 2 and 0 in content[plane::4]:
            return (encoding,)
    return ()
