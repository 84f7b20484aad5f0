"""The generation parameters inside an image: written with it, and read back from any file.

Every image contains two records: `parameters`, the text that other tools read (`a1111.py`), and `lambdiff`, the same
values as unambiguous JSON. `containers.py` stores them in the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from lambdiff._version import __version__
from lambdiff.errors import NOT_JSON, InvalidRequest, MetadataError
from lambdiff.protocol import a1111, containers
from lambdiff.protocol.contract import GenerateRequest, Generation, ImageFormat, ModelIdentity

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageMetadata(Struct, frozen=True, kw_only=True):
    """The record in an image of how it was generated.

    Attributes:
        request: the parameters, ready to be sent again; None for those that another tool's text lacks.
        model, revision, version: the weights' name and revision, and lambdiff's version; empty if unknown.
        exact: whether the parameters come from lambdiff's own record, instead of another tool's text.
        settings: every setting in the web UI's text, unchanged.
    """

    request: GenerateRequest
    model: str = ""
    revision: str = ""
    version: str = ""
    exact: bool = False
    settings: dict[str, str] = {}

    @classmethod
    def of(cls, generation: Generation, model: ModelIdentity) -> ImageMetadata:
        """Describe an image that has just been generated."""
        return cls(
            request=GenerateRequest(**msgspec.structs.asdict(generation)),
            model=model.name,
            revision=model.revision,
            version=__version__,
            exact=True,
        )

    @property
    def generation(self) -> Generation:
        """The complete parameters.

        Raises:
            MetadataError: another tool's text lacks some; the message names them.
        """
        # The web UI leaves out a negative prompt that is empty.
        fields = {**msgspec.structs.asdict(self.request), "negative_prompt": self.request.negative_prompt or ""}
        if missing := [name for name, value in fields.items() if value is None]:
            raise MetadataError(
                f"The image does not record all of its parameters: {', '.join(missing)} missing.",
                fix="Use `metadata.request`, which has the others.",
            )
        return Generation(**fields)


class _Record(Struct, frozen=True, kw_only=True):
    """The exact record, as JSON."""

    generation: Generation
    model: str
    revision: str
    version: str


def encode(image: Image, metadata: ImageMetadata, image_format: ImageFormat | None = None) -> bytes:
    """Encode an image with its metadata inside; the same input gives the same bytes.

    Args:
        image: RGB.
        metadata: complete, from `ImageMetadata.of` or from an image that lambdiff generated.
        image_format: None for the format in `metadata`.

    Raises:
        MetadataError: `metadata` comes from another tool and is incomplete.
    """
    generation = metadata.generation
    if image_format:
        generation = msgspec.structs.replace(generation, image_format=image_format)
    text = a1111.to_text(generation, metadata.model, metadata.version)
    record = _Record(generation=generation, model=metadata.model, revision=metadata.revision, version=metadata.version)
    return containers.write(image, generation.image_format, text, msgspec.json.encode(record))


def read(source: bytes | Path) -> ImageMetadata:
    """Read the metadata of an image from lambdiff, or from any tool that writes the web UI's text.

    Args:
        source: the file's bytes, or its path.

    Raises:
        MetadataError: the file is not an image, is too large or damaged, or has no parameters.

    Example:
        >>> path = lambdiff.generate("a cat in a top hat").save("cat.png")
        >>> read(path).request.prompt
        'a cat in a top hat'
    """
    text, record = containers.read(source)
    parsed, settings = a1111.from_text(text) if text else (None, {})
    if record and (exact := _from_record(record)) is not None:
        return msgspec.structs.replace(exact, settings=settings)
    if parsed is not None:
        return ImageMetadata(request=parsed, model=settings.get("Model", ""), settings=settings)
    if record:
        raise MetadataError("The image's parameters are damaged.", fix="Use the original file.")
    raise MetadataError(
        "The image contains no generation parameters.",
        fix="Use the file as lambdiff or the web UI wrote it: editors and messengers strip the parameters.",
    )


def _from_record(record: bytes) -> ImageMetadata | None:
    try:
        found = msgspec.json.decode(record, type=_Record)
        # A file may contain anything, so validate it like a request.
        request = GenerateRequest.from_fields(msgspec.to_builtins(found.generation))
    except (*NOT_JSON, InvalidRequest):
        return None
    return ImageMetadata(request=request, model=found.model, revision=found.revision, version=found.version, exact=True)
