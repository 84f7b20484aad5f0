"""The handler in a process of its own, for forked processes in which the engine's library cannot be used.

The process is started anew with `subprocess`. `multiprocessing` would import the caller's main module again, and lets
the workers of its pools start no processes. It ends when its connection is closed, however that happens, so it never
outlives the process that uses it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import Pipe, spawn
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from lambdiff import forks
from lambdiff.engine import cancellation
from lambdiff.engine.base import LOADING
from lambdiff.errors import EndpointFailed, LambdiffError
from lambdiff.protocol.contract import OnStep
from lambdiff.protocol.http import HttpResponse


class Request(NamedTuple):
    """The arguments of `InProcessTransport.request`."""

    method: str
    body: bytes
    content_type: str


class Steps(NamedTuple):
    """Sent back after a denoising step. The answer is what `OnStep` returns."""

    done: int
    total: int


class EngineProcess:
    """Answers requests as `InProcessTransport` does, one after the other.

    Args:
        model_dir: a baked folder.

    Example:
        >>> process = EngineProcess(folder)
        >>> process.request("POST", b'{"prompt": "a cat in a top hat"}', None, content_type="application/json").status
        200
        >>> process.close()
    """

    def __init__(self, model_dir: Path) -> None:
        self._model_dir = model_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self.activity = LOADING
        self.renew_after_fork()
        forks.renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Leave the process to the parent; see `forks`."""
        self._lock = threading.Lock()
        if self._connection is not None:
            self._connection.close()
        self._connection = self._process = None

    def request(self, method: str, body: bytes, on_step: OnStep | None, *, content_type: str) -> HttpResponse:
        """Send one request; see `InProcessTransport.request`. The process is started if there is none.

        Raises:
            LambdiffError: as there.
            EndpointFailed: the process cannot be started, or has ended.
        """
        with self._lock:
            try:
                reply = self._exchange(Request(method, body, content_type), on_step)
            except BaseException:
                self._hang_up()  # which also cancels what the process does
                raise
        if isinstance(reply, LambdiffError):
            raise reply
        return reply

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._hang_up()

    def _exchange(self, request: Request, on_step: OnStep | None) -> HttpResponse | LambdiffError:
        with self._failures():
            connection = self._connection or self._start()
            connection.send(request)
        while True:
            with self._failures():
                while not connection.poll(cancellation.INTERVAL_S):
                    cancellation.check()
                message: Steps | HttpResponse | LambdiffError = connection.recv()
            self.activity = ""
            if not isinstance(message, Steps):
                return message
            answer = on_step(*message) if on_step else None
            with self._failures():
                connection.send(answer)

    def _start(self) -> Connection:
        self.activity = LOADING
        self._connection, other = Pipe()
        with other:
            self._process = subprocess.Popen(
                [
                    os.fsdecode(spawn.get_executable()),
                    "-P",  # as for this process, modules are found only where `sys.path` says
                    "-c",
                    "from lambdiff.local.engine_worker import main; main()",
                    str(other.fileno()),
                    str(self._model_dir),
                ],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,  # Ctrl-C is for this process, which then closes the connection
            )  # fmt: skip
        return self._connection

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            process = self._process
            self._hang_up()
            if process is None:
                raise EndpointFailed(f"No process that generates images can be started: {error}.") from error
            raise EndpointFailed(
                f"The process that generates images has ended with exit code {process.returncode}.",
                fix="Check whether the machine has enough memory.",
            ) from error

    def _hang_up(self) -> None:
        """Close the connection, and wait a moment for the process to end."""
        connection, process = self._connection, self._process
        self._connection = self._process = None
        if connection is not None:
            connection.close()
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
