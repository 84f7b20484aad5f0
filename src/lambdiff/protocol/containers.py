"""Write image files with the two records of `metadata`: in PNG text chunks, or in the EXIF data of JPEG and WebP.

| record       | PNG         | EXIF                                                                  |
|--------------|-------------|-----------------------------------------------------------------------|
| `parameters` | text chunk  | UserComment                                                           |
| `lambdiff`   | text chunk  | ImageHistory (https://exiftool.org/TagNames/EXIF.html, 0x9213)        |
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from lambdiff._version import __version__
from lambdiff.protocol.exif import EXIF_IFD, IMAGE_HISTORY, SOFTWARE, USER_COMMENT

if TYPE_CHECKING:
    from PIL.Image import Image

    from lambdiff.protocol.contract import ImageFormat

KEY: Final = "lambdiff"


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


def _png_text(text: str, record: str) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in (("parameters", text), (KEY, record)):
        # Pillow would write Latin-1 into tEXt where it can, which readers may take for UTF-8.
        (info.add_text if value.isascii() else info.add_itxt)(key, value)
    return info


def _exif(text: str, record: bytes) -> bytes:
    """Build EXIF data with both records, in the byte order and with the types that other tools expect.

    Pillow's `Exif` writes UserComment as BYTE where the standard requires UNDEFINED (Exif 2.32, 4.6.5), so the two
    directories are assembled here.
    """
    from PIL import TiffTags
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    exif = ImageFileDirectory_v2(prefix=b"MM")
    exif.tagtype[USER_COMMENT] = TiffTags.UNDEFINED
    exif[USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    root = ImageFileDirectory_v2(prefix=b"MM")
    root[SOFTWARE] = f"lambdiff {__version__}"
    root.tagtype[IMAGE_HISTORY] = TiffTags.ASCII
    root[IMAGE_HISTORY] = record
    root.tagtype[EXIF_IFD] = TiffTags.LONG
    root[EXIF_IFD] = 0
    header = b"MM\0*\0\0\0\x08"
    root[EXIF_IFD] = len(header) + len(root.tobytes(len(header)))
    return b"Exif\0\0" + header + root.tobytes(len(header)) + exif.tobytes(root[EXIF_IFD])
