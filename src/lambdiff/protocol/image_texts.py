"""Read the texts in a PNG, JPEG or WebP file: text chunks, EXIF, XMP and comments.

The files may come from anyone, so pixels are not decoded, compressed texts are decompressed up to a limit, and damaged
parts are skipped. PNG chunks are read to the end of the file, because some programs append texts to the pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from lambdiff.errors import MetadataError
from lambdiff.protocol import exif
from lambdiff.protocol.exif import Exif

ImageFormat = Literal["png", "jpeg", "webp"]

MAX_FILE: Final = 64 * 1024 * 1024
"""Maximum bytes of a file that is read."""
MAX_TEXT: Final = 8 * 1024 * 1024
"""Maximum bytes of one text. The workflows of node editors can be megabytes."""
MAX_TEXTS: Final = 32 * 1024 * 1024
"""Maximum bytes of all texts of a file, including those that are skipped after decompression."""
MAX_PARTS: Final = 100_000
"""Maximum number of chunks or segments; a file of 64 MiB has less than 10,000."""
XMP: Final = "XML:com.adobe.xmp"
"""The name of the XMP document, as PNG defines it; used for all formats."""

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_JPEG_EXIF: Final = b"Exif\0\0"
_JPEG_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"


class ImageTexts(Struct, kw_only=True):
    """The texts of an image file.

    Attributes:
        named: PNG's texts by keyword, a JPEG comment as `Comment`, and the XMP document; the last of equal names.
        exif: the text fields of EXIF data.
        size: (width, height) in pixels, if it was read.
        damaged: whether a part was skipped because it is damaged or too large.
    """

    named: dict[str, str] = {}
    exif: Exif = Exif()
    size: tuple[int, int] | None = None
    damaged: bool = False
    _budget: int = MAX_TEXTS

    def add(self, name: str, value: bytes) -> None:
        """Add a text; blank ones and those that exceed the limits are skipped."""
        self._budget -= len(value)
        if len(value) > MAX_TEXT or self._budget < 0:
            self.damaged = True
            return
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        if text.strip("\0 \n"):
            self.named[name] = text

    def decompress(self, data: bytes) -> bytes:
        """Return a compressed text; empty if it is damaged or exceeds the limits."""
        stream = zlib.decompressobj()
        try:
            value = stream.decompress(data, min(MAX_TEXT, max(self._budget, 1)))
        except zlib.error:
            value = b""
        if stream.eof:
            return value
        self._budget -= len(value)
        self.damaged = True
        return b""


def read(source: bytes | Path) -> ImageTexts:
    """Return the texts of a file.

    Raises:
        MetadataError: the file cannot be read, is too large, or is not a PNG, JPEG or WebP image.
    """
    content = source if isinstance(source, bytes) else read_file(source)
    texts = ImageTexts()
    {"png": _read_png, "jpeg": _read_jpeg, "webp": _read_webp}[detect_format(content)](content, texts)
    return texts


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        MetadataError: it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: the path contains NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise MetadataError(f"{path} cannot be read: {reason}.", fix="Pass an image file.") from None
    if len(content) > MAX_FILE:
        raise MetadataError(f"{path} is larger than {MAX_FILE >> 20} MiB.", fix="Use the original file.")
    return content


def detect_format(content: bytes) -> ImageFormat:
    """Return the format of an image by its first bytes.

    Raises:
        MetadataError: it is not a PNG, JPEG or WebP image.
    """
    if content.startswith(PNG_SIGNATURE):
        return "png"
    if content.startswith(b"\xff\xd8"):
        return "jpeg"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "webp"
    raise MetadataError("The file is not a PNG, JPEG or WebP image.", fix="Pass an image file.")


def _read_png(content: bytes, texts: ImageTexts) -> None:
    """Read the chunks of a PNG file (PNG, third edition, sections 5.3 and 11.3.3)."""
    _read_chunks(content, texts)
    for name in ("Raw profile type exif", "Raw profile type APP1"):
        if name in texts.named and not texts.exif.fields:
            texts.exif = exif.read(_raw_profile(texts.named[name]))


def _read_chunks(content: bytes, texts: ImageTexts) -> None:
    position = len(PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        if position + 12 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, position)
        body = content[position + 8 : position + 8 + length]
        checksum = content[position + 8 + length : position + 12 + length]
        position += 12 + length
        if kind == b"IEND":
            return
        if kind not in (b"IHDR", b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            continue
        if checksum != zlib.crc32(kind + body).to_bytes(4, "big"):
            texts.damaged = True
        elif kind == b"IHDR":
            texts.size = struct.unpack_from(">II", body) if len(body) >= 8 else None
        elif kind == b"eXIf":
            texts.exif = exif.read(body)
        else:
            _add_png_text(kind, body, texts)
    texts.damaged = True


def _raw_profile(text: str) -> bytes:
    """Return the bytes of EXIF data that ImageMagick stored as hexadecimal text: name, length, digits."""
    digits = "".join(text.split()[2:])
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


def _add_png_text(kind: bytes, body: bytes, texts: ImageTexts) -> None:
    keyword, _, rest = body.partition(b"\0")
    compressed = kind == b"zTXt"
    if compressed:
        rest = rest[1:]
    elif kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # without language and translated keyword
    # tEXt and zTXt are Latin-1 by the standard, but several programs write UTF-8, which is rarely valid by accident.
    texts.add(keyword.decode("latin-1"), texts.decompress(rest) if compressed else rest)


def _read_jpeg(content: bytes, texts: ImageTexts) -> None:
    """Read the segments of a JPEG file up to its pixels (ITU T.81, annex B)."""
    blocks: list[list[bytes]] = []
    for marker, body in jpeg_segments(content):
        if marker == 0xFE:
            texts.add("Comment", body)
        elif marker == 0xE1 and body.startswith(_JPEG_EXIF):
            part = body.removeprefix(_JPEG_EXIF)
            if blocks and not part.startswith(exif.SIGNATURES):
                blocks[-1].append(part)  # EXIF data of more than 64 KiB continues in the next segment
            else:
                blocks.append([part])
        elif marker == 0xE1 and body.startswith(_JPEG_XMP):
            texts.add(XMP, body.removeprefix(_JPEG_XMP))
    found = [exif.read(b"".join(parts)) for parts in blocks]
    texts.exif = next((each for each in found if each.fields), Exif())


def jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of each segment with a length, up to the pixels."""
    position = 2
    for _ in range(MAX_PARTS):
        if position + 4 > len(content) or content[position] != 0xFF:
            return
        marker = content[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in (0xD9, 0xDA):
            return
        if 0xD0 <= marker <= 0xD7 or marker == 0x01:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", content, position + 2)
        yield marker, content[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def _read_webp(content: bytes, texts: ImageTexts) -> None:
    """Read the chunks of a WebP file (https://developers.google.com/speed/webp/docs/riff_container)."""
    position = 12
    for _ in range(MAX_PARTS):
        if position + 8 > len(content):
            return
        kind, length = struct.unpack_from("<4sI", content, position)
        body = content[position + 8 : position + 8 + length]
        if kind == b"EXIF":
            texts.exif = exif.read(body)
        elif kind == b"XMP ":
            texts.add(XMP, body)
        position += 8 + length + length % 2
