"""How a gateway may be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MAX_IMAGES = 10
"""Images of one request, as in OpenAI's API."""


@dataclass(frozen=True)
class Settings:
    """The limits of a gateway.

    Attributes:
        api_key: what callers must send as a bearer token; None if only this machine can reach the gateway.
        origins: web pages of these origins may call it; `*` stands for all.
        max_images_per_hour: how many images it generates in any hour; None for no limit.
        workers: how many images are generated at once.
        trusted_hosts: names in the `Host` header, besides those of this machine; `*` stands for all.
    """

    api_key: str | None = field(default=None, repr=False)
    origins: frozenset[str] = frozenset()
    max_images_per_hour: int | None = None
    workers: int = 32
    trusted_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PageFolders:
    """The folders of the page.

    Attributes:
        uploads: for what people upload and what is generated; temporary.
        shown: whose images the page shows, too.
    """

    uploads: Path
    shown: Path | None = None
