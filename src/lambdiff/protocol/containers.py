"""Store the two records of `metadata` in image files: in PNG text chunks, or in the EXIF data of JPEG and WebP.

| record       | PNG         | EXIF                                                                  |
|--------------|-------------|-----------------------------------------------------------------------|
| `parameters` | text chunk  | UserComment                                                           |
| `lambdiff`   | text chunk  | ImageHistory (https://exiftool.org/TagNames/EXIF.html, 0x9213)        |
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lambdiff._version import __version__
from lambdiff.errors import LambdiffError, MetadataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from lambdiff.protocol.contract import ImageFormat

KEY: Final = "lambdiff"
MAX_FILE: Final = 64 * 1024 * 1024
"""Maximum bytes of a file that is read. Pillow limits the number of pixels and the sizes of text chunks."""

_EXIF_IFD: Final = 0x8769
_USER_COMMENT: Final = 0x9286
_IMAGE_HISTORY: Final = 0x9213
_SOFTWARE: Final = 0x0131


def write(image: Image, image_format: ImageFormat, text: str, record: bytes) -> bytes:
    """Encode an image with both records inside; the same input gives the same bytes."""
    stream = io.BytesIO()
    if image_format == "png":
        # Takes half the time of Pillow's level 6 for 3% more bytes (measured at 512x512). Level 1 saves 8 ms, adds 18%.
        image.save(stream, "PNG", compress_level=4, pnginfo=_png_text(text, record.decode()))
    elif image_format == "jpeg":
        image.save(stream, "JPEG", quality=92, subsampling=0, exif=_exif(text, record))
    else:
        image.save(stream, "WEBP", quality=90, method=2, exif=_exif(text, record))
    return stream.getvalue()


def read(source: bytes | Path) -> tuple[str, bytes]:
    """Return both records of a file, each empty if the file has none. Its pixels are not decompressed.

    Raises:
        MetadataError: the file is not a PNG, JPEG or WebP image, too large, or damaged.
    """
    with _opened(source) as image:
        if image.format == "PNG":
            text, record = image.info.get("parameters", ""), image.info.get(KEY, "")
            return (text if isinstance(text, str) else ""), str(record).encode()
        exif = image.getexif()
        text = _decode_user_comment(exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b""))
        history = exif.get(_IMAGE_HISTORY, b"")
        return text, history.encode("latin-1", "replace") if isinstance(history, str) else bytes(history)


@contextlib.contextmanager
def _opened(source: bytes | Path) -> Iterator[Image]:
    import PIL.Image

    try:
        content = source if isinstance(source, bytes) else _content(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about large and damaged files, which are handled here
            with PIL.Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as image:
                yield image
    except PIL.Image.DecompressionBombError:
        raise MetadataError("The image has too many pixels.", fix="Use the original file.") from None
    except PIL.UnidentifiedImageError:
        raise MetadataError("The file is not a PNG, JPEG or WebP image.", fix="Pass an image file.") from None
    except LambdiffError:
        raise
    except Exception:  # Pillow's decoders raise nearly anything on hostile files
        raise MetadataError("The image is damaged.", fix="Use the original file.") from None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise MetadataError(f"{path} cannot be read: {error.strerror}.", fix="Pass an image file.") from None
    if len(content) > MAX_FILE:
        raise MetadataError(f"{path} is larger than {MAX_FILE >> 20} MiB.", fix="Use the original file.")
    return content


def _png_text(text: str, record: str) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", text)
    info.add_text(KEY, record)
    return info


def _exif(text: str, record: bytes) -> bytes:
    """Build EXIF data with both records, in the byte order and with the types that other tools expect.

    Pillow's `Exif` writes UserComment as BYTE where the standard requires UNDEFINED (Exif 2.32, 4.6.5), so the two
    directories are assembled here.
    """
    from PIL import TiffTags
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    exif = ImageFileDirectory_v2(prefix=b"MM")
    exif.tagtype[_USER_COMMENT] = TiffTags.UNDEFINED
    exif[_USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    root = ImageFileDirectory_v2(prefix=b"MM")
    root[_SOFTWARE] = f"lambdiff {__version__}"
    root.tagtype[_IMAGE_HISTORY] = TiffTags.ASCII
    root[_IMAGE_HISTORY] = record
    root.tagtype[_EXIF_IFD] = TiffTags.LONG
    root[_EXIF_IFD] = 0
    header = b"MM\0*\0\0\0\x08"
    root[_EXIF_IFD] = len(header) + len(root.tobytes(len(header)))
    return b"Exif\0\0" + header + root.tobytes(len(header)) + exif.tobytes(root[_EXIF_IFD])


def _decode_user_comment(value: Any) -> str:
    """Decode EXIF's UserComment, whose first eight bytes name the encoding (Exif 2.32, 4.6.5)."""
    if not isinstance(value, bytes):
        return value if isinstance(value, str) else ""
    encoding, content = value[:8], value[8:]
    if encoding == b"UNICODE\0":
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be", "replace")
    return (content if encoding in (b"ASCII\0\0\0", bytes(8)) else value).decode("utf-8", "replace")
