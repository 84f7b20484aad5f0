"""The in-process transport: the handler in this process, without HTTP or signatures.

Where a fork has made the engine's library unusable, the handler runs in a process of its own instead.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from lambdiff.engine import native_library
from lambdiff.engine.factory import open_engine
from lambdiff.engine.manifest import Manifest
from lambdiff.errors import LambdiffError
from lambdiff.handler.app import App
from lambdiff.local import builtin
from lambdiff.local.compiled_graphs import CompiledGraphs, open_graphs
from lambdiff.local.engine_process import EngineProcess
from lambdiff.protocol.contract import OnStep
from lambdiff.protocol.headers import JSON
from lambdiff.protocol.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class InProcessTransport:
    """Answers requests as a Function URL would, with the same handler.

    Args:
        model_dir: a baked folder; None for `LAMBDIFF_MODEL_DIR` or the built-in model.

    Example:
        >>> transport = InProcessTransport()
        >>> response = transport.request("POST", b'{"prompt": "a cat in a top hat"}')
        >>> response.status, response.content_type
        (200, 'image/png')
    """

    url = "in process"
    step = (0, 0)
    """The denoising steps of the request in progress: done, and in total."""

    def __init__(self, model_dir: Path | None = None) -> None:
        self._graphs: CompiledGraphs | None = None
        model_dir = model_dir or builtin.default_model_dir()
        self._open = functools.partial(open_engine, model_dir, self._open_graphs)
        self._app = App(self._open, raise_errors=True)
        self._process = EngineProcess(model_dir)

    def request(
        self, method: str, body: bytes = b"", on_step: OnStep | None = None, *, content_type: str = JSON
    ) -> HttpResponse:
        """Send one request to `/`.

        Args:
            method: the HTTP method, `GET` or `POST`.
            body: the request's body.
            on_step: called after each denoising step; see `OnStep`.
            content_type: of the body.

        Raises:
            MissingExtra, ModelError: the engine or the model is missing; a remote endpoint would answer 503.
            Cancelled: `on_step` returned True.
        """
        headers = {"content-type": content_type} if body else {}

        def count(done: int, total: int) -> bool | None:
            self.step = done, total
            return on_step(done, total) if on_step else None

        try:
            if native_library.any_unusable():
                return self._process.request(method, body, count, content_type=content_type)
            return self._app.handle(HttpRequest(method=method, headers=headers, body=body), count)
        finally:
            self.step = 0, 0

    @property
    def activity(self) -> str:
        """What the engine does apart from generating, such as `loading the model`; empty otherwise."""
        return (self._process if native_library.any_unusable() else self._app).activity

    @property
    def can_preview(self) -> bool:
        """Whether `preview` shows images before they are finished."""
        return not native_library.any_unusable() and self._app.can_preview

    def preview(self) -> NDArray[np.uint8] | None:
        """Return the pixels of the image so far, if it is called from `on_step`: (height, width, 3), otherwise None."""
        return self._app.preview()

    def load_ahead(self) -> None:
        """Load the model in the background; the first request waits for it.

        Raises:
            MissingExtra, ModelError: the engine or the model is missing.
        """
        engine = self._app.engine  # imports OpenVINO: imports by several threads would delay each other

        def load() -> None:
            with contextlib.suppress(LambdiffError):  # raised again for the first request
                engine.load()

        threading.Thread(target=load, name="lambdiff-load").start()

    def close(self) -> None:
        """Keep the compiled graphs for later processes, and release the model; the next request loads it again."""
        if self._graphs is not None:
            self._graphs.save()
        self._app = App(self._open, raise_errors=True)
        self._process.close()

    def _open_graphs(self, model_dir: Path, manifest: Manifest) -> CompiledGraphs | None:
        self._graphs = open_graphs(model_dir, manifest)
        if self._graphs is not None:  # for those who never close, such as `lambdiff.generate`
            weakref.finalize(self, self._graphs.save)
        return self._graphs
