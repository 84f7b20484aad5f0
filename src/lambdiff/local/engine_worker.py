"""The program that `EngineProcess` starts: it answers the requests that arrive through a connection."""

from __future__ import annotations

import contextlib
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from lambdiff.engine.cancellation import cancelled_if
from lambdiff.errors import LambdiffError
from lambdiff.local.engine_process import Request, Steps
from lambdiff.local.in_process import InProcessTransport
from lambdiff.protocol.http import HttpResponse


def main() -> None:
    """Serve until the connection is closed. The arguments are its file descriptor and the model's folder."""
    transport = InProcessTransport(Path(sys.argv[2]))
    with Connection(int(sys.argv[1])) as connection, contextlib.suppress(EOFError, OSError):

        def on_step(done: int, total: int) -> bool | None:
            connection.send(Steps(done, total))
            answer: bool | None = connection.recv()
            return answer

        while True:
            request: Request = connection.recv()
            try:
                # While an image is generated, nothing arrives but answers, until the connection is closed.
                with cancelled_if(connection.poll):
                    reply: HttpResponse | LambdiffError = transport.request(
                        request.method, request.body, on_step, content_type=request.content_type
                    )
            except LambdiffError as error:
                reply = error
            connection.send(reply)
