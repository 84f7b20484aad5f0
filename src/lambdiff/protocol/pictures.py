"""The pictures of a request: the start image, and the mask that says what is redrawn.

Both are base64 in JSON, from anyone. A picture is checked by its header when the request is read, and decoded only when
the model accepts it. Only its pixels are used: orientation is applied, and EXIF data, such as a position, is dropped.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import re
from typing import TYPE_CHECKING, Any, Final, Literal

from lambdiff.errors import MetadataError
from lambdiff.protocol import image_decoding, image_texts
from lambdiff.protocol.image_decoding import BadImage, ImageHeader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Pixels = NDArray[np.uint8]

Kind = Literal["image", "mask"]
"""The fields of a request that are pictures."""
KINDS: Final[tuple[Kind, ...]] = ("image", "mask")

MAX_PIXELS: Final = 2048 * 2048
"""Maximum number of pixels of a picture: four times the largest image, 12 MB as RGB."""
MAX_BODY: Final = 6 * 1024 * 1024 - 96 * 1024
"""Maximum bytes of a request's body with pictures: 6,193,152.

A Function URL passes on an event of at most 6 MiB (6,291,456 bytes), in which the body is a JSON string. Escaping it
adds at most 8 bytes for each character of the two prompts (4,000: an emoji of 4 bytes becomes `\\ud83d\\ude00`), and 1
byte for each quotation mark around a field: 32,100. base64 contains nothing to escape. The event's other fields are the
headers, at most 16 KiB and at most doubled by escaping (32,768), and the request's context (less than 2,048). Together
66,916 bytes, for which 96 KiB (98,304) are left.

The largest pictures that lambdiff's clients send fit: a PNG of 1024 x 1024 random pixels has 3,151,216 bytes, and its
mask in shades of gray 1,051,107. That is 5,603,100 bytes of base64, beside at most 48,600 of prompts and other fields.
"""
WHITE: Final = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR4nGP8zwABTAwUMQBJQQEPeWDz+AAAAABJRU5ErkJggg=="
"""8 x 8 white pixels: stands for a picture where a model needs one and its content does not matter."""
_QUARTER_TURNS: Final = (5, 6, 7, 8)
"""EXIF orientations in which width and height change places."""
_MAX_REST: Final = 64 * 1024
"""Maximum bytes of a body without its pictures, as `contract.MAX_BODY`."""
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=\\]{1024,}")
"""A long run of base64; some programs escape its slashes as `\\/`."""


class Picture:
    """One encoded picture, decoded when its pixels are needed.

    Args:
        text: base64 of a PNG, JPEG or WebP file.
        kind: what it is for. A start image is RGB, on white where it is transparent; a mask is gray, on black.

    Attributes:
        kind: as given.

    Raises:
        BadImage: it is not base64, not one such file, or too large. The message continues the field's name.

    Example:
        >>> picture = Picture(base64.b64encode(lambdiff.generate("a cat").content).decode(), "image")
        >>> picture, picture.pixels.shape
        (<Picture 256x256>, (256, 256, 3))
    """

    def __init__(self, text: str, kind: Kind) -> None:
        self.kind = kind
        self._content = _from_base64(text)
        self._header = read_header(self._content)
        self._pixels: Pixels | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, as it is shown: EXIF data may say that it is rotated by a quarter turn."""
        width, height = self._header
        return (height, width) if _orientation(self._content) in _QUARTER_TURNS else (width, height)

    @property
    def pixels(self) -> Pixels:
        """The pixels, 0..255: shape (height, width, 3), or (height, width) of a mask.

        Raises:
            BadImage: the file is damaged or incomplete.
        """
        import numpy as np

        if self._pixels is None:
            image = image_decoding.decode(self._content, image_texts.detect_format(self._content), self._header)
            self._pixels = np.asarray(flatten(image, self.kind))
        return self._pixels

    def decode(self) -> None:
        """Decode the pixels now; later uses do not decode them again.

        Raises:
            BadImage: as for `pixels`.
        """
        _ = self.pixels

    @property
    def sha256(self) -> str:
        """The hash of size and pixels, which does not depend on the file's format and metadata.

        Raises:
            BadImage: as for `pixels`.
        """
        return hash_pixels(self.pixels)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Picture):
            return NotImplemented
        return (self.kind, self._content) == (other.kind, other._content)

    def __hash__(self) -> int:
        return hash((self.kind, self._content))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_pixels": None}  # a copy decodes them again, so that pickles stay small

    def __repr__(self) -> str:
        return f"<Picture {self._header.width}x{self._header.height}>"


def hash_pixels(pixels: Pixels) -> str:
    """Return the SHA-256, in hexadecimal, of a picture's size as text and its pixels row by row.

    Example:
        >>> import hashlib, numpy as np
        >>> hash_pixels(np.zeros((2, 3, 3), np.uint8)) == hashlib.sha256(b"3x2\\n" + bytes(18)).hexdigest()
        True
    """
    import hashlib

    height, width = pixels.shape[:2]
    return hashlib.sha256(f"{width}x{height}\n".encode() + pixels.tobytes()).hexdigest()


def read_header(content: bytes) -> ImageHeader:
    """Read the size of a picture without decoding anything.

    Raises:
        BadImage: it is not one PNG, JPEG or WebP image, or has more than `MAX_PIXELS`.
    """
    try:
        image_format = image_texts.detect_format(content)
    except MetadataError:
        raise BadImage("is not a PNG, JPEG or WebP image") from None
    header = image_decoding.read_header(content, image_format)
    if header.width * header.height > MAX_PIXELS:
        raise BadImage(f"has {header.width}x{header.height} pixels, more than {MAX_PIXELS:,}")
    return header


def flatten(image: Image, kind: Kind) -> Image:
    """Return an image of any mode as RGB or, for a mask, as gray; upright, and without transparency.

    Raises:
        BadImage: its EXIF data or its colors are damaged.
    """
    import PIL.Image
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I") or image.mode == "F":
            image = _eight_bits(image)
        if image.has_transparency_data:
            # As in AUTOMATIC1111's web UI. diffusers would show the hidden colors, which are often black.
            background = PIL.Image.new("RGBA", image.size, "white" if kind == "image" else "black")
            image = PIL.Image.alpha_composite(background, image.convert("RGBA"))
        return image.convert("RGB" if kind == "image" else "L")
    except Exception as error:  # Pillow raises nearly anything for damaged data
        raise BadImage(f"is damaged ({str(error)[:60].rstrip('.')})") from None


def check_body(body: bytes) -> bool:
    """Whether a body is small, apart from two long runs of base64. Takes some milliseconds for 6 MB."""
    runs = sorted(match.end() - match.start() for match in _BASE64.finditer(body))
    return len(body) - sum(runs[-len(KINDS) :]) <= _MAX_REST


def _orientation(content: bytes) -> int:
    """Return the orientation in EXIF data; 0 if there is none, or if it is damaged."""
    import PIL.Image

    with contextlib.suppress(Exception):  # a damaged picture is refused when it is decoded
        image = PIL.Image.open(io.BytesIO(content), formats=[image_texts.detect_format(content)])
        return int(image.getexif().get(0x0112, 0))
    return 0


def _from_base64(text: str) -> bytes:
    if text.startswith("data:"):
        raise BadImage("must be base64 only, without `data:...;base64,` in front")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadImage("is not base64") from None


def _eight_bits(image: Image) -> Any:
    """Return an image with 16 or more bits per pixel with 8; Pillow would clip the values instead of scaling them."""
    import numpy as np
    import PIL.Image

    values = np.asarray(image)
    scaled = values * 255 if image.mode == "F" else values >> 8
    return PIL.Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
