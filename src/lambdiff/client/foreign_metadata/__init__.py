"""Read the generation parameters from the images of other tools.

    recorded      what a tool recorded -> lambdiff's parameters, and notes about the rest
    samplers      names of samplers and noise schedules
    user_comment  the encodings of EXIF's UserComment
    xmp           texts in XMP
    webui         the text of AUTOMATIC1111's web UI
    json_tools    SwarmUI, Fooocus, InvokeAI, NovelAI, Draw Things, Easy Diffusion
    comfyui       the graphs of ComfyUI

The reason for readers of our own: `docs/decisions/0018-own-metadata-readers.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lambdiff.client.foreign_metadata import comfyui, json_tools, user_comment, webui, xmp
from lambdiff.client.foreign_metadata.recorded import json_object
from lambdiff.errors import MetadataError
from lambdiff.protocol import exif, image_texts, metadata
from lambdiff.protocol.image_texts import ImageTexts
from lambdiff.protocol.metadata import ImageMetadata


def read(source: bytes | Path) -> ImageMetadata:
    """Read the metadata of an image from lambdiff or from another tool.

    Args:
        source: the file's bytes, or its path.

    Raises:
        MetadataError: the file is not an image, is too large, or contains no parameters that can be read.

    Example:
        >>> path = lambdiff.generate("a cat in a top hat", seed=7).save("cat.png")
        >>> read(path).request.seed
        7
    """
    texts = image_texts.read(source)
    found = metadata.from_texts(texts) or next(filter(None, _readings(texts)), None)
    if found is not None:
        return found
    if texts.damaged:
        raise MetadataError("The image is damaged: no generation parameters can be read.", fix="Use the original file.")
    raise MetadataError(
        "The image contains no generation parameters.",
        fix="Use the file as the program that generated it wrote it: editors and messengers strip the parameters.",
    )


def _readings(texts: ImageTexts) -> Iterator[ImageMetadata | None]:
    """Yield what each reader makes of the texts, the most explicit records first."""
    graphs = {"prompt": texts.named.get("prompt"), "workflow": texts.named.get("workflow")}
    if "parameters" in texts.named:
        yield _read_text(texts.named["parameters"], graphs, require_settings=False)
    yield json_tools.from_texts(texts)
    for text in _other_texts(texts):
        yield _read_text(text, graphs, require_settings=True)
    yield comfyui.read(graphs["prompt"], graphs["workflow"])


def _read_text(text: str, graphs: dict[str, Any], *, require_settings: bool) -> ImageMetadata | None:
    """Read a text of any tool; if it has graphs of ComfyUI, add them to `graphs` for later."""
    document = json_object(text)
    if document is not None:
        graphs |= {name: document[name] for name in graphs if isinstance(document.get(name), dict | str)}
        if comfyui.is_graph(document):
            graphs["prompt"] = document
        return json_tools.from_object(document)
    name, _, rest = text.partition(":")
    if name.lower() in graphs and json_object(rest):  # as ComfyUI writes graphs into EXIF fields
        graphs[name.lower()] = rest
        return None
    return webui.read(text, require_settings=require_settings)


def _other_texts(texts: ImageTexts) -> Iterator[str]:
    """Yield the texts of EXIF fields, comments and XMP in which tools store parameters."""
    fields = texts.exif.fields
    if exif.USER_COMMENT in fields:
        yield from user_comment.decodings(fields[exif.USER_COMMENT], texts.exif.byte_order)
    if exif.XP_COMMENT in fields:
        yield fields[exif.XP_COMMENT].decode("utf-16-le", "replace").rstrip("\0")
    for tag in (exif.IMAGE_DESCRIPTION, exif.MODEL, exif.MAKE):
        if tag in fields:
            yield fields[tag].rstrip(b"\0").decode("utf-8", "replace")
    for name in ("Comment", "Description"):
        if name in texts.named:
            yield texts.named[name]
    yield from xmp.texts(texts.named.get(image_texts.XMP, ""))
