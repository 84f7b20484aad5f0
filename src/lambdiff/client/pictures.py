"""Start images and masks as callers have them, turned into what a request carries.

A picture is turned upright, scaled down, and encoded as PNG without any metadata: the size and place of a photo on disk
do not matter, and `protocol.pictures.MAX_BODY` shows that the largest of them fits into a request.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from lambdiff.errors import MetadataError
from lambdiff.protocol import image_texts, pictures
from lambdiff.protocol.contract import MAX_SIZE, Limits
from lambdiff.protocol.image_decoding import BadImage
from lambdiff.protocol.pictures import Kind, Picture
from lambdiff.protocol.validation import raise_for

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS: Final = 150_000_000
"""Maximum number of pixels of a picture before it is scaled down."""
_FORMATS: Final = ("PNG", "JPEG", "WEBP")


class SupportsArray(Protocol):
    """Pixels that numpy reads: its arrays, and a `GeneratedImage`."""

    def __array__(self, *arguments: Any, **options: Any) -> Any: ...


class SupportsArrayInterface(Protocol):
    """Pixels that numpy reads, such as a `PIL.Image.Image`."""

    @property
    def __array_interface__(self) -> Any: ...


class EncodedPicture:
    """A picture that is ready to be sent.

    Attributes:
        text: base64 of a PNG file.
        sha256: the hash of its pixels, see `protocol.pictures.hash_pixels`.
    """

    def __init__(self, image: Image) -> None:
        import numpy as np

        stream = io.BytesIO()
        image.save(stream, "PNG", compress_level=1)
        self.text = base64.b64encode(stream.getvalue()).decode("ascii")
        self.sha256 = pictures.hash_pixels(np.asarray(image))
        self._size = image.size

    def __repr__(self) -> str:
        width, height = self._size
        return f"<EncodedPicture {width}x{height}>"


PictureSource = str | os.PathLike[str] | bytes | SupportsArray | SupportsArrayInterface | EncodedPicture
"""A start image or a mask: the path or the bytes of a PNG, JPEG or WebP file, a PIL image, a numpy array of shape
(height, width), (height, width, 3) or (height, width, 4), or a `GeneratedImage`."""


def encode_pictures(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request with its pictures encoded.

    Raises:
        InvalidRequest: a picture cannot be read, with one entry in `problems` for each.
    """
    encoded = dict(parameters)
    size = (parameters.get("width"), parameters.get("height"))
    problems = []
    for kind in pictures.KINDS:
        if encoded.get(kind) is not None:
            try:
                encoded[kind] = encode(encoded[kind], kind, size)
            except BadImage as error:
                problems.append((kind, str(error)))
    raise_for(problems)
    return encoded


def required_pictures(limits: Limits) -> dict[str, Any]:
    """Return arguments for `Client.generate` with the pictures that a model needs, if their content does not matter."""
    sample = limits.sample_pictures
    return {name: base64.b64decode(value) if name in pictures.KINDS else value for name, value in sample.items()}


def encode(source: Any, kind: Kind, size: tuple[Any, Any] = (None, None)) -> EncodedPicture:
    """Return a picture as it is sent.

    It keeps its aspect ratio, and is scaled down until it just covers `size`, or fits into the largest image.

    Args:
        source: see `PictureSource`.
        kind: what the picture is for.
        size: (width, height) of the image to be generated; None if unknown.

    Raises:
        BadImage: it cannot be read; the message continues the parameter's name.
    """
    if isinstance(source, EncodedPicture):
        return source
    image = pictures.flatten(_open(source), kind)
    width, height = image.size
    scale = min(MAX_SIZE / max(width, height), 1.0)
    if all(isinstance(side, int) and 0 < side <= MAX_SIZE for side in size):
        scale = min(max(size[0] / width, size[1] / height), math.sqrt(MAX_SIZE**2 / (width * height)), 1.0)
    if scale < 1.0:
        import PIL.Image

        smaller = max(1, round(width * scale)), max(1, round(height * scale))
        image = image.resize(smaller, PIL.Image.Resampling.LANCZOS)
    return EncodedPicture(image)


def encode_like(source: Any, kind: Kind, size: tuple[Any, Any], sha256: str) -> tuple[EncodedPicture, bool]:
    """Return a picture as it was sent for an earlier image, and whether it is the same.

    Args:
        source: see `PictureSource`.
        kind: what the picture is for.
        size: (width, height) of the earlier image, which may or may not have been known when its picture was encoded.
        sha256: the hash that the earlier image records.

    Raises:
        InvalidRequest: the picture cannot be read.
    """
    try:
        candidates = [encode(source, kind, size), encode(source, kind)]
    except BadImage as error:
        raise_for([(kind, str(error))])
    same = [each for each in candidates if each.sha256 == sha256]
    return (same or candidates)[0], bool(same)


def _open(source: Any) -> Image:
    """Return the pixels of a source, decoded.

    Raises:
        BadImage: it is not a picture.
    """
    from PIL import Image

    from lambdiff.client.image import GeneratedImage

    if isinstance(source, GeneratedImage):
        return source.image
    if isinstance(source, Picture):
        return Image.fromarray(source.pixels)
    if isinstance(source, Image.Image):
        return _loaded(source)
    if isinstance(source, str | os.PathLike):
        return _decode(_read(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source))
    return _from_array(source)


def _read(path: str | os.PathLike[str]) -> bytes:
    from pathlib import Path

    try:
        return image_texts.read_file(Path(path).expanduser())
    except MetadataError as error:
        raise BadImage(f"is not usable: {error.message.rstrip('.')}") from None


def _decode(content: bytes) -> Image:
    import PIL.Image

    try:
        with warnings.catch_warnings():  # of many pixels
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            image = PIL.Image.open(io.BytesIO(content), formats=_FORMATS)
    except PIL.Image.DecompressionBombError:
        raise BadImage(f"has more than {MAX_PIXELS:,} pixels") from None
    except (OSError, ValueError, SyntaxError):
        raise BadImage("is not a PNG, JPEG or WebP image") from None
    return _loaded(image)


def _loaded(image: Image) -> Image:
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(f"has more than {MAX_PIXELS:,} pixels")
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
        raise BadImage(f"is damaged ({str(error)[:100].rstrip('.')})") from None
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a photo with its preview or depth map
        raise BadImage("is an animation")
    return image


def _from_array(source: Any) -> Image:
    import numpy as np
    import PIL.Image

    array = None
    with contextlib.suppress(Exception):  # whatever an object of another library raises
        array = np.asarray(source)
    if array is None or array.ndim not in (2, 3) or array.dtype.kind not in "buif" or not array.size:
        raise BadImage(f"must be a path, the bytes of a file, an image or an array, not {type(source).__name__}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 3 and array.shape[2] not in (3, 4):
        raise BadImage(f"must have the shape (height, width, 3), not {array.shape}")
    if array.dtype.kind in "bf":
        largest = float(array.max())
        if not (float(array.min()) >= 0 and largest <= 1):
            raise BadImage("must have numbers in 0..1, or whole numbers in 0..255")
        array = np.rint(array * 255.0)
    elif array.min() < 0 or array.max() > 255:
        raise BadImage("must have numbers in 0..1, or whole numbers in 0..255")
    return PIL.Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8))
