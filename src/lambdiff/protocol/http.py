"""A request and its reply as client and handler exchange them, independent of the transport."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HttpRequest:
    """A request as the handler sees it.

    Attributes:
        headers: names in lower case.
        body: decoded; empty if there is none.
        request_id: printable ASCII, at most 64 characters.
        deadline: the `time.monotonic()` at which the function is killed; None if it has no time limit.
        sent_at: when the Function URL received the request, in seconds since 1970; None if unknown.
    """

    method: str
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    deadline: float | None = None
    sent_at: float | None = None


@dataclass(frozen=True)
class HttpResponse:
    """A reply from any endpoint; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type without parameters, for instance `image/png`."""
        return media_type(self.headers.get("content-type", ""))


def media_type(content_type: str) -> str:
    """Return a Content-Type in lower case and without its parameters.

    Example:
        >>> media_type("Application/JSON; charset=utf-8")
        'application/json'
    """
    return content_type.partition(";")[0].strip().lower()
