"""A generated image: what `generate` returns."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lambdiff.client import replies
from lambdiff.errors import InvalidRequest, MetadataError, OutputError
from lambdiff.files import write_atomically
from lambdiff.printable import printable
from lambdiff.protocol.headers import (
    ENGINE_HEADER,
    MEDIA_TYPES,
    MODEL_HEADER,
    SEED_HEADER,
    TIMING_HEADER,
    WARNINGS_HEADER,
    decode_seed,
    decode_timings,
    decode_warnings,
)

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray
    from PIL.Image import Image

    from lambdiff.protocol.contract import GenerateRequest, Generation, ImageFormat
    from lambdiff.protocol.http import HttpResponse
    from lambdiff.protocol.metadata import ImageMetadata

SUFFIXES: Final[dict[str, ImageFormat]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def format_of(path: str | os.PathLike[str]) -> ImageFormat:
    """Return the image format for the suffix of a file name.

    Raises:
        InvalidRequest: there is no suffix, or the format is not supported.

    Example:
        >>> format_of("cat.jpg")
        'jpeg'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidRequest(
            f"The name {path} has no suffix of a supported image format.",
            fix=f"Use one of the suffixes {', '.join(SUFFIXES)}.",
        )
    return SUFFIXES[suffix]


def has_display() -> bool:
    """Whether programs with windows can be started. On Linux they need a display server."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class GeneratedImage:
    """An image and everything that is known about it. Notebooks display it.

    Attributes:
        content: the image file's bytes as the endpoint encoded them, parameters included.
        format: `png`, `jpeg` or `webp`.
        seed: the seed that was used; pass it again for the same image.
        model, engine: the name and revision of the model, and the name and precision of the engine.
        timings: seconds by phase in the endpoint (load, encode, denoise, decode, compress), and `total`, the seconds
            that the caller waited.
        warnings: messages from the endpoint, for instance that the prompt was truncated.
        cost: estimated dollars, from the seconds of the phases, the deployment's memory size and the dated prices in
            `lambdiff.pricing`; None on this machine, and if the memory size is unknown.

    Example:
        >>> image = lambdiff.generate("a cat in a top hat", seed=7)
        >>> image.image.size
        (256, 256)
        >>> image.save("cat.png")
        PosixPath('cat.png')
    """

    def __init__(
        self,
        content: bytes,
        *,
        format: ImageFormat,
        model: str,
        engine: str,
        timings: dict[str, float],
        warnings: list[str],
        cost: float | None = None,
        seed: int | None = None,
    ) -> None:
        self.content = content
        self.format = format
        self.model = model
        self.engine = engine
        self.timings = timings
        self.warnings = warnings
        self.cost = cost
        self._seed = seed
        # Not cached properties: before Python 3.12 they have a lock, which a forked child might inherit.
        self._image: Image | None = None
        self._metadata: ImageMetadata | None = None

    @classmethod
    def from_reply(
        cls,
        reply: HttpResponse,
        request: GenerateRequest,
        seconds: float,
        price: Callable[[float], float | None] = lambda _: None,
    ) -> GeneratedImage:
        """Read a successful reply.

        Args:
            reply: the reply as received.
            request: what was asked for. Nothing else is decoded.
            seconds: how long the caller waited.
            price: returns the price in dollars of the given seconds.

        Raises:
            EndpointFailed: the reply is not a complete image in the requested format and size, or it is the image of
                another request.
        """
        from lambdiff.protocol import metadata
        from lambdiff.protocol.image_decoding import BadImage, decode

        header = replies.check_image(reply, request)
        if (seed := decode_seed(reply.headers.get(SEED_HEADER))) is not None:
            replies.check_parameters(request, {"seed": seed})
            request = msgspec.structs.replace(request, seed=seed)
        timings = decode_timings(reply.headers.get(TIMING_HEADER))
        generated = cls(
            reply.body,
            format=request.image_format,
            model=printable(reply.headers.get(MODEL_HEADER, ""), 200),
            engine=printable(reply.headers.get(ENGINE_HEADER, ""), 200),
            timings={**timings, "total": seconds},
            warnings=decode_warnings(reply.headers.get(WARNINGS_HEADER)),
            seed=seed,
            cost=price(sum(taken for phase, taken in timings.items() if phase != "queue")),
        )
        with contextlib.suppress(MetadataError):  # a proxy may have removed it
            generated._metadata = recorded = metadata.read(reply.body)
            replies.check_pictures(request, {"image": recorded.image_sha256, "mask": recorded.mask_sha256})
            generated.warnings += replies.check_parameters(request, msgspec.structs.asdict(recorded.request))
        try:
            generated._image = decode(reply.body, request.image_format, header)
        except BadImage as bad:
            raise replies.bad_image(bad) from None
        return generated

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GeneratedImage:
        """Read an image file with the parameters inside it, from lambdiff or from another tool.

        Any PNG, JPEG or WebP file can be opened. What it does not record is an error only when it is used: `seed`,
        `parameters` and `metadata` say what is missing. Files record no engine, timings, warnings and cost.

        Raises:
            MetadataError: the file cannot be read, is damaged, or is no such image.

        Example:
            >>> path = lambdiff.generate("a cat in a top hat", seed=7).save("cat.png")
            >>> lambdiff.GeneratedImage.open(path).parameters.seed
            7
        """
        from lambdiff.protocol import image_texts

        content = image_texts.read_file(Path(path).expanduser())
        format = image_texts.detect_format(content)
        opened = cls(content, format=format, model="", engine="", timings={}, warnings=[])
        opened.image  # noqa: B018 (decodes it now, like `from_reply`)
        with contextlib.suppress(MetadataError):
            opened.model = "@".join(filter(None, (opened.metadata.model, opened.metadata.revision)))
        return opened

    @property
    def image(self) -> Image:
        """The image as a `PIL.Image.Image`. What lambdiff generates has the mode RGB."""
        if self._image is None:
            self._image = self._decode()
        return self._image

    @property
    def metadata(self) -> ImageMetadata:
        """The metadata in the image file: parameters, model, revision, version.

        Raises:
            MetadataError: it contains no metadata, for instance because a proxy removed it.
        """
        if self._metadata is None:
            from lambdiff.protocol import image_texts, metadata

            self._metadata = metadata.from_texts(image_texts.read(self.content))
        if self._metadata is None:
            from lambdiff.client import foreign_metadata

            self._metadata = foreign_metadata.read(self.content)
        return self._metadata

    def _decode(self) -> Image:
        from lambdiff.protocol.image_decoding import BadImage, decode

        try:
            return decode(self.content, self.format)
        except BadImage as bad:
            raise MetadataError(f"The image {bad}.", fix="Use the original file.") from None

    @property
    def parameters(self) -> Generation:
        """Every parameter that was used, with the model's defaults and the random seed filled in.

        Raises:
            MetadataError: as for `metadata`.
        """
        return self.metadata.generation

    @property
    def seed(self) -> int:
        """The seed that was used, from the reply or else from the image file.

        Raises:
            MetadataError: neither has it.
        """
        seed = self.metadata.request.seed if self._seed is None else self._seed
        if seed is None:
            raise MetadataError(
                "The image does not record its seed.", fix="Use `metadata.request`, which has what it does."
            )
        return seed

    @property
    def media_type(self) -> str:
        """The content type of `content`, such as `image/png`."""
        return MEDIA_TYPES[self.format]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.size

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the image to a file, with its parameters inside.

        The received bytes are written unchanged if the suffix agrees with their format; otherwise the image is
        encoded again. The file is written atomically.

        Args:
            path: a name that ends in .png, .jpg, .jpeg or .webp. `~` is your home folder.
            force: replace an existing file.

        Returns:
            The path.

        Raises:
            OutputError: the file exists, or cannot be written.
            InvalidRequest: the suffix is not that of a supported format.
        """
        path = Path(os.path.expanduser(path))
        if os.path.isdir(path):
            raise OutputError(f"{path} is a folder.", fix="Add a file name to it.")
        image_format = format_of(path)
        content = self.content if image_format == self.format else self._encode(image_format)
        return write_atomically(path, content, force=force)

    def show(self) -> None:
        """Open the image in the system's viewer.

        Raises:
            OutputError: there is no display, or no program that shows images.
        """
        from PIL import ImageShow

        if not has_display() or not ImageShow.show(self.image):
            raise OutputError("The image cannot be shown: there is no display or no viewer.", fix="Save it to a file.")

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, for JSON."""
        import msgspec

        try:
            parameters = msgspec.to_builtins(self.parameters)
        except MetadataError:
            parameters = None
        return {
            "seed": self._known_seed,
            "parameters": parameters,
            "model": self.model,
            "engine": self.engine,
            "format": self.format,
            "bytes": len(self.content),
            "timings": {phase: round(seconds, 4) for phase, seconds in self.timings.items()},
            "warnings": self.warnings,
            "cost": self.cost,
        }

    def __getstate__(self) -> dict[str, Any]:
        # What is decoded from `content` is decoded again, so that a pickle is not many times as large.
        return {**vars(self), "_image": None, "_metadata": None}

    def _encode(self, image_format: ImageFormat) -> bytes:
        from lambdiff.protocol import metadata

        return metadata.encode(self.image.convert("RGB"), self.metadata, image_format)

    @property
    def _known_seed(self) -> int | None:
        try:
            return self.seed
        except MetadataError:
            return None

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The pixels as a numpy array of bytes, for instance for `np.asarray(image)`.

        The shape is (height, width, 3). Transparency, in an opened image of another program, is a fourth channel.
        """
        import numpy as np

        if copy is False:  # numpy's protocol requires this error; pixels of Pillow cannot be shared
            raise ValueError("A GeneratedImage cannot become an array without copying its pixels.")
        # Images of other programs may have a palette, whose indexes are not colors, or a single channel.
        pixels = self.image.convert("RGBA" if self.image.has_transparency_data else "RGB")
        return np.array(pixels, dtype=dtype)

    def _repr_png_(self) -> bytes | None:
        if self.format == "jpeg":
            return None  # see `_repr_jpeg_`
        if self.format == "png":
            return self.content
        stream = io.BytesIO()  # not every notebook displays WebP
        self.image.save(stream, "PNG")
        return stream.getvalue()

    def _repr_jpeg_(self) -> bytes | None:
        return self.content if self.format == "jpeg" else None

    def __repr__(self) -> str:
        width, height = self.size
        model = f" model={self.model!r}" if self.model else ""
        seconds = f" {self.timings['total']:.1f} s" if "total" in self.timings else ""
        return f"<GeneratedImage {width}x{height} {self.format} seed={self._known_seed}{model}{seconds}>"
