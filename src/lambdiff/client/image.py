"""A generated picture: what `generate` gives back."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lambdiff.errors import EndpointFailed, InvalidRequest, MetadataError
from lambdiff.files import write_whole
from lambdiff.protocol import contract

if TYPE_CHECKING:
    from PIL.Image import Image

    from lambdiff.protocol.contract import Generation
    from lambdiff.protocol.http import HttpResponse
    from lambdiff.protocol.metadata import ImageMetadata

Price = Callable[[float], "float | None"]

SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def format_of(path: str | os.PathLike[str]) -> str:
    """The image format that a file name's suffix means.

    Raises:
        InvalidRequest: no suffix, or one of another format.

    Example:
        >>> format_of("cat.jpg")
        'jpeg'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidRequest(
            f"{path} does not say which format to write.", fix=f"End the name in one of {', '.join(SUFFIXES)}."
        )
    return SUFFIXES[suffix]


class GeneratedImage:
    """A picture and everything that is known about it. Notebooks show it as a picture.

    Attributes:
        content: the image file's bytes, exactly as the endpoint made them, parameters inside.
        format: `png`, `jpeg` or `webp`.
        seed: the seed that was used; give it again for the same picture.
        model, engine: what drew it.
        timings: seconds by phase on the endpoint's side (load, encode, denoise, decode, compress), and `total`, the
            seconds the caller waited.
        warnings: what the endpoint wants the caller to know, each a sentence.
        cost: about how many dollars the picture cost, from the phases' times and the deployment's memory, by the dated
            table in `infra/prices.py`; None where this machine drew or the memory is not known.

    Example:
        >>> image = lambdiff.generate("a cat in a top hat", seed=7)  # doctest: +SKIP
        >>> image.image.size  # doctest: +SKIP
        (256, 256)
        >>> image.save("cat.png")  # doctest: +SKIP
        PosixPath('cat.png')
    """

    def __init__(
        self,
        content: bytes,
        *,
        format: str,
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

    @classmethod
    def from_reply(cls, reply: HttpResponse, seconds: float, price: Price = lambda _: None) -> GeneratedImage:
        """Read a successful reply.

        Args:
            reply: as it came.
            seconds: what the caller waited.
            price: dollars for so many seconds of the endpoint's time.

        Raises:
            EndpointFailed: the reply is no whole picture.
        """
        headers = reply.headers
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        formats = {media: name for name, media in contract.MEDIA_TYPES.items()}
        if media_type not in formats:
            raise EndpointFailed(
                f"The endpoint answered {reply.status} with {media_type or 'no content type'} instead of a picture.",
                fix="Check that the URL is a lambdiff endpoint: `lambdiff status`.",
                status=reply.status,
            )
        timings = contract.decode_timings(headers.get(contract.TIMING_HEADER))
        picture = cls(
            reply.body,
            format=formats[media_type],
            model=headers.get(contract.MODEL_HEADER, ""),
            engine=headers.get(contract.ENGINE_HEADER, ""),
            timings={**timings, "total": seconds},
            warnings=contract.decode_warnings(headers.get(contract.WARNINGS_HEADER)),
            seed=int(seed) if (seed := headers.get(contract.SEED_HEADER, "")).isdecimal() else None,
            cost=price(sum(taken for phase, taken in timings.items() if phase != "queue")),
        )
        picture.image  # noqa: B018 (decodes: a picture that was cut on the way must not pass for one)
        return picture

    @cached_property
    def image(self) -> Image:
        """The picture as a `PIL.Image.Image`, mode RGB."""
        from PIL import Image

        try:
            image = Image.open(io.BytesIO(self.content))
            image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise EndpointFailed(
                f"The picture arrived damaged: {error}.",
                fix="It was not asked for again, since it was paid for once; run it again if you want that.",
            ) from None
        return image

    @cached_property
    def recorded(self) -> ImageMetadata:
        """What the image file itself says: parameters, model, revision, version."""
        from lambdiff.protocol import metadata

        return metadata.read(self.content)

    @property
    def parameters(self) -> Generation:
        """Every parameter that was used, the model's defaults and the drawn seed included."""
        return self.recorded.generation

    @property
    def seed(self) -> int:
        """The seed that was used: the reply's, or the one inside the picture."""
        return self.parameters.seed if self._seed is None else self._seed

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.size

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the picture; the format follows the suffix, the parameters stay inside.

        The bytes are written as they came where the suffix agrees with them; otherwise the picture is encoded anew.
        The file appears whole or not at all.

        Args:
            path: a name that ends in .png, .jpg, .jpeg or .webp.
            force: replace an existing file.

        Returns:
            The path.

        Raises:
            OutputError: the file exists, or cannot be written.
            InvalidRequest: the suffix says no known format.
        """
        wanted = format_of(path)
        return write_whole(Path(path), self.content if wanted == self.format else self._encode(wanted), force=force)

    def show(self) -> None:
        """Open the picture in the system's viewer."""
        self.image.show()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, for JSON."""
        import msgspec

        try:
            parameters = msgspec.to_builtins(self.parameters)
        except MetadataError:  # an endpoint that is not lambdiff's, or something on the way took them out
            parameters = None
        return {
            "seed": parameters["seed"] if parameters else self._seed,
            "parameters": parameters,
            "model": self.model,
            "engine": self.engine,
            "format": self.format,
            "bytes": len(self.content),
            "timings": {phase: round(seconds, 4) for phase, seconds in self.timings.items()},
            "warnings": self.warnings,
            "cost": self.cost,
        }

    def _encode(self, wanted: str) -> bytes:
        from lambdiff.protocol import metadata

        return metadata.encode(self.image, self.recorded, wanted)

    def _repr_png_(self) -> bytes:
        return self.content if self.format == "png" else self._encode("png")

    def __repr__(self) -> str:
        width, height = self.size
        return (
            f"<GeneratedImage {width}x{height} {self.format} seed={self.to_dict()['seed']} model={self.model!r} "
            f"{self.timings.get('total', 0):.1f} s>"
        )
