"""Read text fields from EXIF data, from any byte order and any order of its parts.

Programs store texts with the wrong type and in the wrong directory, so the bytes of a field are returned as they are.
Only the fields below are read, because hostile files have thousands that overlap. Layout: TIFF 6.0, section 2; tags:
https://exiftool.org/TagNames/EXIF.html.
"""

from __future__ import annotations

import struct
from typing import Any, Final, Literal

from msgspec import Struct

IMAGE_DESCRIPTION: Final = 0x010E
MAKE: Final = 0x010F
MODEL: Final = 0x0110
SOFTWARE: Final = 0x0131
EXIF_IFD: Final = 0x8769
IMAGE_HISTORY: Final = 0x9213
USER_COMMENT: Final = 0x9286
XP_COMMENT: Final = 0x9C9C

SIGNATURES: Final = (b"II*\0", b"MM\0*")
_FIELDS: Final = frozenset({IMAGE_DESCRIPTION, MAKE, MODEL, SOFTWARE, IMAGE_HISTORY, USER_COMMENT, XP_COMMENT})
_TEXT_TYPES: Final = frozenset({1, 2, 7, 129})
"""BYTE, ASCII, UNDEFINED and UTF-8: the types of one byte in which programs store text."""
_MAX_FIELD: Final = 8 * 1024 * 1024
_PREFIX: Final = b"Exif\0\0"
_ENTRY: Final = 12


class Exif(Struct, frozen=True):
    """The text fields of EXIF data.

    Attributes:
        byte_order: of its numbers, and usually of UTF-16 in a UserComment.
        fields: the bytes of each field by its tag.
    """

    byte_order: Literal["little", "big"] = "big"
    fields: dict[int, bytes] = {}


def read(data: bytes) -> Exif:
    """Return the text fields; none if the data is damaged.

    Args:
        data: with or without the prefix that JPEG requires.
    """
    data = data.removeprefix(_PREFIX)
    if not data.startswith(SIGNATURES):
        return Exif()
    order = "<" if data[:1] == b"I" else ">"
    (root,) = _unpack(order + "I", data, 4) or (0,)
    fields: dict[int, bytes] = {}
    sub_folder = _read_folder(data, order, root, fields)
    if sub_folder is not None:
        _read_folder(data, order, sub_folder, fields)
    return Exif("little" if order == "<" else "big", fields)


def _read_folder(data: bytes, order: str, start: int, fields: dict[int, bytes]) -> int | None:
    """Add the text fields of a directory to `fields`; return the offset of the Exif directory if it names one."""
    sub_folder = None
    (count,) = _unpack(order + "H", data, start) or (0,)
    for position in range(start + 2, start + 2 + count * _ENTRY, _ENTRY):
        entry = _unpack(order + "HHII", data, position)
        if entry is None:
            break
        tag, kind, size, value = entry
        if tag == EXIF_IFD:
            sub_folder = value
        elif tag in _FIELDS and kind in _TEXT_TYPES and tag not in fields and size <= _MAX_FIELD:
            offset = position + 8 if size <= 4 else value
            fields[tag] = data[offset : offset + size]
    return sub_folder


def _unpack(form: str, data: bytes, offset: int) -> tuple[Any, ...] | None:
    try:
        return struct.unpack_from(form, data, offset)
    except struct.error:
        return None
