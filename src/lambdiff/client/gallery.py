"""The grid that a notebook shows for a batch: small copies of its images, and why some are missing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Final

from lambdiff.client.image import GeneratedImage
from lambdiff.errors import LambdiffError
from lambdiff.printable import printable

MAX_TILES: Final = 60
"""The number of results that a grid shows. With `_SIDE`, this keeps a grid below about 1 MB in a notebook's file."""
_SIDE: Final = 192
_GRID: Final = "display:grid;grid-template-columns:repeat(auto-fill,minmax(128px,192px));gap:8px"
_TILE: Final = "margin:0;font:11px sans-serif;overflow-wrap:anywhere"


def grid(results: Sequence[GeneratedImage | LambdiffError]) -> str:
    """Return the HTML of a grid with the first `MAX_TILES` images and the reasons for missing ones."""
    tiles = [_tile(index, result) for index, result in enumerate(results[:MAX_TILES])]
    rest = len(results) - len(tiles)
    more = f"<p>and {rest:,} more: display batch[{len(tiles)}:]</p>" if rest else ""
    return f'<div style="{_GRID}">{"".join(tiles)}</div>{more}'


def _tile(index: int, result: GeneratedImage | LambdiffError) -> str:
    if isinstance(result, GeneratedImage):
        text = f"{index}: seed {result.to_dict()['seed']}"
        warnings = "".join(f"<br>{escape(printable(warning, 200))}" for warning in result.warnings)
        return (
            f'<figure style="{_TILE}"><img src="{_small_copy(result)}" alt="{text}" style="width:100%">'
            f"<figcaption>{text}{warnings}</figcaption></figure>"
        )
    reason = escape(printable(result.message, 200))
    return f'<figure style="{_TILE}"><figcaption>{index}: failed<br>{reason}</figcaption></figure>'


def _small_copy(image: GeneratedImage) -> str:
    small = image.image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
