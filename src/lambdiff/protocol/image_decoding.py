"""Decode images that may come from anyone: only in the expected format, and only after a look at their header.

A decoder allocates memory for the size that a header states, a file of a few megabytes can have a hundred thousand
parts, and a program such as Ghostscript may be started for formats that nobody asked for.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from lambdiff.protocol.image_texts import PNG_SIGNATURE, ImageFormat, jpeg_segments

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PARTS: Final = 10_000
"""Maximum number of chunks or segments. An image of the largest size has less than 1,000."""
MAX_SCANS: Final = 100
"""Maximum number of passes over the pixels of a progressive JPEG file, which usually has ten."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG's frame headers."""


class BadImage(ValueError):
    """The content is not one complete image of the expected format; the message says why, as a predicate."""


class ImageHeader(NamedTuple):
    """The size of an image in pixels, as its header states it."""

    width: int
    height: int


def read_header(content: bytes, image_format: ImageFormat) -> ImageHeader:
    """Read the size of an image without decoding anything.

    Raises:
        BadImage: it has another format, no size or several, more than one image, or too many parts.

    Example:
        >>> read_header(lambdiff.generate("a cat in a top hat", width=192, height=128).content, "png")
        ImageHeader(width=192, height=128)
    """
    read = {"png": _read_png, "jpeg": _read_jpeg, "webp": _read_webp}[image_format]
    try:
        header = read(content)
    except (struct.error, IndexError):
        header = None
    if header is None or not all(header):
        raise BadImage(f"is not a {image_format.upper()} image")
    return header


def decode(content: bytes, image_format: ImageFormat, header: ImageHeader | None = None) -> Image:
    """Decode the pixels.

    Args:
        content: the file.
        image_format: its format; no other is tried.
        header: what `read_header` returned, unless the file is trusted. Pillow reads headers in its own way, so it may
            find another size.

    Raises:
        BadImage: the image is damaged.
    """
    import PIL.Image

    try:
        image = PIL.Image.open(io.BytesIO(content), formats=[image_format])
        if header is None or image.size == header:
            image.load()
            return image
    except PIL.UnidentifiedImageError:  # its message has only the address of the stream
        pass
    except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
        raise BadImage(f"is damaged ({str(error).rstrip('.')})") from None
    raise BadImage("is damaged")


def _read_png(content: bytes) -> ImageHeader | None:
    if not content.startswith(PNG_SIGNATURE) or content[12:16] != b"IHDR":
        return None
    position = len(PNG_SIGNATURE)
    for number in range(MAX_PARTS):
        if position + 8 > len(content):
            return ImageHeader(*struct.unpack_from(">II", content, 16))
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"acTL":
            raise BadImage("is an animation")
        if kind == b"IHDR" and number:
            raise BadImage("has two headers")
        position += 12 + length
    raise BadImage(f"has more than {MAX_PARTS:,} parts")


def _read_jpeg(content: bytes) -> ImageHeader | None:
    if not content.startswith(b"\xff\xd8"):
        return None
    header = None
    for number, (marker, body) in enumerate(jpeg_segments(content)):
        if number > MAX_PARTS:
            raise BadImage(f"has more than {MAX_PARTS:,} parts")
        if marker == 0xE2 and body.startswith(b"MPF\0"):
            raise BadImage("contains several images")
        if marker in _FRAMES:
            if header:
                raise BadImage("has two headers")
            height, width = struct.unpack_from(">HH", body, 1)
            header = ImageHeader(width, height)
    if content.count(b"\xff\xda") > MAX_SCANS:
        raise BadImage(f"has more than {MAX_SCANS} scans")
    return header


def _read_webp(content: bytes) -> ImageHeader | None:
    """Read the first chunk (RFC 9649, sections 2.5 to 2.7; RFC 6386, section 9.1)."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return None
    kind, body = content[12:16], content[20:30]
    if kind == b"VP8X":
        if body[0] & 0b10:
            raise BadImage("is an animation")
        return ImageHeader(int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return ImageHeader((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return ImageHeader(width & 0x3FFF, height & 0x3FFF)
    return None
