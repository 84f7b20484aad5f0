"""The interface between `Client` and the network."""

from __future__ import annotations

from typing import Protocol

from lambdiff.protocol.contract import OnStep
from lambdiff.protocol.http import HttpResponse


class Transport(Protocol):
    """Carries requests to an endpoint and returns its replies.

    Pass your own as `Client(transport=...)`, for instance to test a program without a network. It need not inherit
    from this class. `Client` may call it from several threads at once, and closes it.

    Attributes:
        url: names the endpoint in messages; need not be a URL.

    Example:
        >>> import lambdiff
        >>> class Busy:
        ...     url = "a busy endpoint"
        ...
        ...     def request(self, method, body=b"", on_step=None):
        ...         return lambdiff.HttpResponse(status=429, headers={}, body=b"")
        ...
        ...     def close(self): ...
        >>> with lambdiff.Client(transport=Busy()) as client:
        ...     try:
        ...         client.generate("a cat in a top hat")
        ...     except lambdiff.Throttled as error:
        ...         print(error.message)
        The endpoint is busy (429): its concurrency is used up.
    """

    @property
    def url(self) -> str: ...  # noqa: D102 (see Attributes)

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        """Send one request to `/` and return the reply, whatever its status.

        Args:
            method: `GET` for health, `POST` to generate an image.
            body: the request as JSON (`GenerateRequest`); empty for `GET`.
            on_step: called after each denoising step, by transports that can observe the steps; True cancels.

        Raises:
            EndpointFailed: there is no reply.
        """

    def close(self) -> None:
        """Release connections or weights."""
