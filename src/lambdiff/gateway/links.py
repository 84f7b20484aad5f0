"""Links to images, which expire: they are kept in memory, and a name cannot be guessed."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from lambdiff.client.image import GeneratedImage

EXPIRES_S: Final = 3_600.0
"""How long a link works, as at OpenAI."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""Maximum bytes of all images; the oldest ones are dropped first."""


class Links:
    """The images behind the links of one gateway.

    Args:
        clock: seconds, monotonic.

    Example:
        >>> links = Links()
        >>> name = links.add(lambdiff.generate("a cat"))
        >>> links.find(name).media_type, links.find("other")
        ('image/png', None)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._images: OrderedDict[str, tuple[float, GeneratedImage]] = OrderedDict()

    def add(self, image: GeneratedImage) -> str:
        """Keep an image, and return its name."""
        name = secrets.token_urlsafe(32)
        self._images[name] = self._clock() + EXPIRES_S, image
        self._drop()
        return name

    def find(self, name: str) -> GeneratedImage | None:
        """Return an image, or None if there is none or its link has expired."""
        self._drop()
        kept = self._images.get(name)
        return kept[1] if kept else None

    def _drop(self) -> None:
        now = self._clock()
        while self._images and next(iter(self._images.values()))[0] <= now:
            self._images.popitem(last=False)
        while len(self._images) > 1 and sum(len(image.content) for _, image in self._images.values()) > MAX_BYTES:
            self._images.popitem(last=False)
