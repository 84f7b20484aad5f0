"""The generation parameters inside an image: written with it, and read back.

Every image contains two records: `parameters`, the text that other tools read (`a1111.py`), and `lambdiff`, the same
values as unambiguous JSON. `containers.py` writes them, `image_texts.py` reads them. What other tools store in their
images is read by `client/foreign_metadata`, which also reads lambdiff's own files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from lambdiff._version import __version__
from lambdiff.errors import NOT_JSON, InvalidRequest, MetadataError
from lambdiff.protocol import a1111, containers, image_texts, pictures
from lambdiff.protocol.containers import KEY
from lambdiff.protocol.contract import GenerateRequest, Generation, ImageFormat, ModelIdentity, Strength
from lambdiff.protocol.exif import IMAGE_HISTORY
from lambdiff.protocol.image_texts import ImageTexts
from lambdiff.protocol.validation import checked, validate_fields

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE: Final = frozenset({"width", "height"})


class ImageMetadata(Struct, frozen=True, kw_only=True):
    """The record in an image of how it was generated.

    Attributes:
        request: the parameters as they are recorded; None for those that another tool does not record. Those of another
            tool may be out of lambdiff's range: see `reusable`.
        model, revision, version: the weights' name and revision, and lambdiff's version; empty if unknown.
        engine, precision, threads: what computed the pixels. With the same values, model, version and processor, the
            same request gives the same bytes. Empty or 0 if unknown.
        image_sha256, mask_sha256: the hashes of the start image and the mask that were sent, see
            `pictures.hash_pixels`; empty if there was none. The pictures themselves are not recorded.
        exact: whether the parameters come from lambdiff's own record.
        tool: the program that generated the image.
        settings: every setting that another tool recorded, as text.
        notes: what lambdiff cannot repeat, one sentence each: samplers, settings and values that it does not support.
    """

    request: GenerateRequest
    model: str = ""
    revision: str = ""
    version: str = ""
    engine: str = ""
    precision: str = ""
    threads: int = 0
    image_sha256: str = ""
    mask_sha256: str = ""
    exact: bool = False
    tool: str = KEY
    settings: dict[str, str] = {}
    notes: list[str] = []

    @classmethod
    def of(
        cls, generation: Generation, model: ModelIdentity, *, engine: str = "", precision: str = "", threads: int = 0
    ) -> ImageMetadata:
        """Describe an image that has just been generated."""
        fields = msgspec.structs.asdict(generation)
        sent = {kind: fields.pop(kind) for kind in pictures.KINDS}
        return cls(
            request=GenerateRequest(**fields),
            model=model.name,
            revision=model.revision,
            version=__version__,
            engine=engine,
            precision=precision,
            threads=threads,
            image_sha256=sent["image"].sha256 if sent["image"] else "",
            mask_sha256=sent["mask"].sha256 if sent["mask"] else "",
            exact=True,
        )

    @property
    def generation(self) -> Generation:
        """The complete parameters, without a start image and a mask.

        Raises:
            MetadataError: another tool's text lacks some; the message names them.
        """
        # The web UI leaves out a negative prompt that is empty, and some tools the usual spacing of the noise levels.
        usual = {"negative_prompt": "", "sigma_schedule": "normal", "prompt_syntax": "plain"}
        recorded = {name: value for name, value in msgspec.structs.asdict(self.request).items() if value is not None}
        fields = {**dict.fromkeys(self.request.__struct_fields__), **usual, **recorded}
        optional = (*pictures.KINDS, "strength")
        if missing := [name for name, value in fields.items() if value is None and name not in optional]:
            raise MetadataError(
                f"The image does not record all of its parameters: {', '.join(missing)} missing.",
                fix="Use `metadata.request`, which has the others.",
            )
        return Generation(**fields)

    def reusable(self) -> dict[str, Any]:
        """Return the recorded parameters that a request accepts; `notes` names the others. The prompt is always there.

        With a `strength`, the request also needs the start image, which is not recorded.

        Example:
            >>> recorded = ImageMetadata(request=GenerateRequest(prompt="a cat", num_inference_steps=1000, seed=7))
            >>> recorded.reusable()
            {'prompt': 'a cat', 'seed': 7}
        """
        recorded = msgspec.structs.asdict(self.request)
        given = {name: value for name, value in recorded.items() if value is not None and name != "image_format"}
        valid, _ = validate_fields(GenerateRequest, given)
        if not valid.keys() >= SIZE:  # half of a size would give an image of another shape
            valid = {name: value for name, value in valid.items() if name not in SIZE}
        return {"prompt": self.request.prompt, **valid}


class _Record(Struct, frozen=True, kw_only=True):
    """The exact record, as JSON."""

    generation: Generation
    model: str
    revision: str
    version: str
    engine: str = ""
    precision: str = ""
    threads: int = 0
    image_sha256: str = ""
    mask_sha256: str = ""


_DESCRIPTION: Final = (
    "model", "revision", "version", "engine", "precision", "threads", "image_sha256", "mask_sha256"
)  # fmt: skip
"""What a record has besides the generation."""


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
    record = _Record(generation=generation, **{name: getattr(metadata, name) for name in _DESCRIPTION})
    return containers.write(image, generation.image_format, text, msgspec.json.encode(record))


def read(source: bytes | Path) -> ImageMetadata:
    """Read lambdiff's own record from an image.

    Args:
        source: the file's bytes, or its path.

    Raises:
        MetadataError: the file is not an image, is too large, or has no valid record.

    Example:
        >>> path = lambdiff.generate("a cat in a top hat").save("cat.png")
        >>> read(path).request.prompt
        'a cat in a top hat'
    """
    recorded = from_texts(image_texts.read(source))
    if recorded is None:
        raise MetadataError("The image contains no valid record of lambdiff.", fix="Use the original file.")
    return recorded


def from_texts(texts: ImageTexts) -> ImageMetadata | None:
    """Return lambdiff's own record among the texts of an image; None if there is no valid one."""
    record = texts.named.get(KEY, "").encode() or texts.exif.fields.get(IMAGE_HISTORY, b"").rstrip(b"\0")
    try:
        found = msgspec.json.decode(record, type=_Record)
        # A file may contain anything, so validate it like a request. The start image is not in the file.
        fields = msgspec.to_builtins(found.generation)
        strength = fields.pop("strength")
        request = GenerateRequest.from_fields(fields)
        request = msgspec.structs.replace(request, strength=checked("strength", strength, Strength | None))
    except (*NOT_JSON, InvalidRequest):
        return None
    return ImageMetadata(request=request, exact=True, **{name: getattr(found, name) for name in _DESCRIPTION})
