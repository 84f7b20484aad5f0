"""The embedded endpoint: the handler in this process, without HTTP and without signatures."""

from __future__ import annotations

import functools
from pathlib import Path

from lambdiff.engine.factory import open_engine
from lambdiff.handler.app import App
from lambdiff.local import builtin
from lambdiff.protocol.headers import JSON
from lambdiff.protocol.http import HttpRequest, HttpResponse, OnStep


class InProcessTransport:
    """Answers as a Function URL would, with the same handler.

    Args:
        model_dir: a baked folder; None for `LAMBDIFF_MODEL_DIR` or the built-in model.

    Example:
        >>> endpoint = InProcessTransport()
        >>> reply = endpoint.request("POST", b'{"prompt": "a cat in a top hat"}')  # doctest: +SKIP
        >>> reply.status, reply.content_type  # doctest: +SKIP
        (200, 'image/png')
    """

    url = "in process"

    def __init__(self, model_dir: Path | None = None) -> None:
        self._open = functools.partial(open_engine, model_dir or builtin.folder())
        self._app = App(self._open, raise_errors=True)

    def request(
        self, method: str, body: bytes = b"", on_step: OnStep | None = None, *, content_type: str = JSON
    ) -> HttpResponse:
        """Send one request to `/`.

        Raises:
            MissingExtra, ModelError: there is no engine or no model; a remote endpoint would answer 503.
            Cancelled: `on_step` returned True.
        """
        headers = {"content-type": content_type} if body else {}
        return self._app.handle(HttpRequest(method=method, headers=headers, body=body), on_step)

    def close(self) -> None:
        """Let go of the weights; the next request loads them again."""
        self._app = App(self._open, raise_errors=True)
