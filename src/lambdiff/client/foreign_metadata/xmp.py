"""Find the texts in an XMP document in which programs store parameters.

XMP: ISO 16684-1; the properties: https://exiftool.org/TagNames/XMP.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from xml.etree import ElementTree

_MAX_DOCUMENT: Final = 256 * 1024
_PROPERTIES: Final = (
    "{http://ns.adobe.com/exif/1.0/}UserComment",
    "{http://purl.org/dc/elements/1.1/}description",
)


def texts(document: str) -> Iterator[str]:
    """Yield the comments and descriptions of a document; none if it is damaged, or longer than such documents are."""
    document = document.strip("\0\ufeff \r\n")
    if not document or len(document) > _MAX_DOCUMENT or "<!DOCTYPE" in document:  # a DTD could define endless entities
        return
    try:
        root = ElementTree.fromstring(document)  # noqa: S314 (see above)
    except (ElementTree.ParseError, ValueError):
        return
    for name in _PROPERTIES:
        for element in root.iter():
            if element.tag == name:
                yield "".join(element.itertext()).strip()
            if name in element.attrib:
                yield element.attrib[name]
