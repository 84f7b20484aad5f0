"""Images that a hostile endpoint could send in reply to a request for one of 64x64 pixels."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from lambdiff.protocol.contract import MAX_PAYLOAD, ImageFormat

Hostile = tuple[str, ImageFormat, bytes]
"""A name, the format that the endpoint was asked for, and what it sends."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ZEROS = zlib.compress(bytes(100_000_000), 9)
"""100 MB in 100 kB."""


def encoded(image_format: ImageFormat, size: tuple[int, int] = (64, 64), **options: object) -> bytes:
    """Return a harmless image."""
    stream = io.BytesIO()
    Image.new("RGB", size, "red").save(stream, image_format.upper(), **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ihdr(width: int, height: int, depth: int = 8, color: int = 2) -> bytes:
    """Return PNG's header chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))


def png(*chunks: bytes, size: tuple[int, int] = (64, 64)) -> bytes:
    """Return a PNG image of zeros with these chunks before its pixels."""
    pixels = zlib.compress(bytes((1 + 3 * 64) * 64))
    return SIGNATURE + ihdr(*size) + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND")


def segment(marker: int, body: bytes = b"") -> bytes:
    """Return a JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(*segments: bytes) -> bytes:
    """Return a JPEG image with these segments at its beginning."""
    content = encoded("jpeg")
    return content[:2] + b"".join(segments) + content[2:]


def frame(width: int, height: int) -> bytes:
    """Return a JPEG frame header."""
    return segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + b"\1\x11\0\2\x11\0\3\x11\0")


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a WebP file with these chunks."""
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(b)) + b + bytes(len(b) % 2) for k, b in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8x(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    """Return WebP's chunk with the size of the canvas."""
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def other_formats() -> Iterator[Hostile]:
    """Yield files that are not of the requested format, whatever their content type says."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(%pipe%touch /tmp/x) (w) file\n"
    files = {"EPS": eps, "EPS, DOS": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(eps)) + bytes(18) + eps}
    for name in ("GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "PDF", "JPEG2000"):
        stream = io.BytesIO()
        Image.new("RGB", (64, 64)).save(stream, name)
        files[name] = stream.getvalue()
    files |= {
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
        "HTML": b"<html></html>",
        "nothing": b"",
        "NUL": bytes(1_000),
        "signature only": SIGNATURE,
    }
    for name, content in files.items():
        for image_format in ("png", "jpeg", "webp"):
            yield name, image_format, content
    for sent in ("png", "jpeg", "webp"):
        for asked in ("png", "jpeg", "webp"):
            if sent != asked:
                yield f"{sent} instead of {asked}", asked, encoded(sent)


def wrong_sizes() -> Iterator[Hostile]:
    """Yield images whose header states another size than 64x64, or none."""
    for image_format in ("png", "jpeg", "webp"):
        for size in ((72, 64), (64, 72), (128, 128), (1, 1)):
            yield f"{size[0]}x{size[1]}", image_format, encoded(image_format, size)
    gray = SIGNATURE + ihdr(13_300, 13_300, 1, 0)
    yield "13,300 pixels", "png", gray + chunk(b"IDAT", zlib.compress(bytes(1_664 * 13_300), 9)) + chunk(b"IEND")
    yield "26,000 pixels", "png", SIGNATURE + ihdr(26_000, 26_000) + chunk(b"IDAT", ZEROS) + chunk(b"IEND")
    yield "2**31 pixels", "png", png(size=(2**31 - 1, 2**31 - 1))
    yield "no pixels", "png", png(size=(0, 64))
    yield "second header", "png", png(ihdr(13_300, 13_300))
    yield "65,500 pixels", "jpeg", b"\xff\xd8" + frame(65_500, 65_500) + encoded("jpeg")[2:]
    yield "second frame", "jpeg", jpeg(frame(65_500, 65_500))
    yield "hidden frame", "jpeg", b"\xff\xd8" + frame(64, 64) + b"junk" + frame(13_000, 13_000) + encoded("jpeg")[2:]
    lossless = encoded("webp", lossless=True)[12:]
    yield "16,383 pixels of canvas", "webp", riff(vp8x(16_383, 16_383), (b"VP8L", lossless[8:]))
    yield "2**24 pixels of canvas", "webp", riff(vp8x(2**24, 2**24))
    yield "16,384 pixels, lossless", "webp", riff((b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(50)))
    yield "16,383 pixels, lossy", "webp", riff((b"VP8 ", bytes(3) + b"\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(50)))


def structures() -> Iterator[Hostile]:
    """Yield images of the right size with far too many parts, or with several images."""
    yield "500,000 chunks", "png", png(chunk(b"teSt") * 500_000)
    yield "500,000 texts", "png", png(chunk(b"tEXt", b"a\0") * 400_000)
    yield "animation", "png", png(chunk(b"acTL", struct.pack(">II", 5_000, 0)))
    frames = [Image.new("RGB", (64, 64), (index, 0, 0)) for index in range(100)]
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    yield "animation", "webp", stream.getvalue()
    yield "1,500,000 comments", "jpeg", jpeg(segment(0xFE) * 1_500_000)
    yield "several images", "jpeg", jpeg(segment(0xE2, b"MPF\0MM\0*\0\0\0\x08" + bytes(50)))
    scan = encoded("jpeg", progressive=True)
    start = scan.rindex(b"\xff\xda")
    yield "100,000 scans", "jpeg", scan[:start] + scan[start:-2] * 100_000 + b"\xff\xd9"
    for image_format in ("png", "jpeg", "webp"):
        yield "half", image_format, encoded(image_format)[: len(encoded(image_format)) // 2]
        yield "header", image_format, encoded(image_format)[:40]


def expanding() -> Iterator[Hostile]:
    """Yield images of the right size whose other parts expand, or which are as large as a reply can be."""
    room = MAX_PAYLOAD - 10_000
    yield "text", "png", png(chunk(b"tEXt", b"parameters\0" + b" " * room))
    yield "compressed text", "png", png(chunk(b"zTXt", b"parameters\0\0" + ZEROS))
    yield "compressed texts", "png", png(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9))] * 5_000)
    yield "international text", "png", png(chunk(b"iTXt", b"lambdiff\0\1\0\0\0" + ZEROS))
    yield "color profile", "png", png(chunk(b"iCCP", b"a\0\0" + ZEROS))
    yield (
        "EXIF",
        "png",
        png(chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + b"\x92\x86\0\7\xff\xff\xff\xff\0\0\0\x08" * 5_000)),
    )
    yield "unknown chunk", "png", png(chunk(b"teSt", bytes(room)))
    yield "pixels", "png", SIGNATURE + ihdr(64, 64) + chunk(b"IDAT", ZEROS) + chunk(b"IEND")
    yield "after the end", "png", png() + bytes(room)
    yield "EXIF", "jpeg", jpeg(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 90)
    yield "color profile", "jpeg", jpeg(segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(65_000)) * 90)
    yield "comments", "jpeg", jpeg(segment(0xFE, bytes(65_000)) * 90)
    yield "photoshop", "jpeg", jpeg(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\xff\xff\xff\xff" * 5_000) * 90)
    picture = (encoded("webp", lossless=True)[12:16], encoded("webp", lossless=True)[20:])
    for kind, flag in ((b"EXIF", 8), (b"XMP ", 4), (b"ICCP", 32)):
        yield kind.decode(), "webp", riff(vp8x(64, 64, flag), (kind, bytes(room)), picture)


def damaged() -> Iterator[Hostile]:
    """Yield images with random bytes changed; the same ones every time."""
    changing = random.Random(7)  # noqa: S311
    for image_format in ("png", "jpeg", "webp"):
        for number in range(60):
            content = bytearray(encoded(image_format, exif=Image.Exif()))
            for _ in range(changing.randint(1, 6)):
                content[changing.randrange(len(content))] = changing.randrange(256)
            yield f"damage {number}", image_format, bytes(content)


def refused() -> Iterator[Hostile]:
    """Yield what must be refused."""
    yield from other_formats()
    yield from wrong_sizes()
    yield from structures()


def harmful() -> Iterator[Hostile]:
    """Yield what may be refused or accepted, but must do no harm."""
    yield from expanding()
    yield from damaged()
