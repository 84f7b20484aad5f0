"""A proxy on loopback that loses requests and replies, at random but repeatably, and counts what it loses."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
from collections import Counter
from urllib.parse import urlsplit

from support.faulty_server import FaultyServer, reset


class LossyProxy(FaultyServer):
    """Forwards POST requests to a server, except for some.

    Args:
        url: the server's.
        lost: the share of requests whose reply is lost: `reply reset` and `reply 502` happen after the server has
            generated, `request reset` before it was asked.
        seed: of the choice.

    Attributes:
        losses: how often each happened.
    """

    def __init__(self, url: str, lost: float, seed: int = 0) -> None:
        super().__init__(self._answer)
        self._target = urlsplit(url)
        self._random, self._lost = random.Random(seed), lost  # noqa: S311
        self._choosing = threading.Lock()
        self.losses: Counter[str] = Counter()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException), connection:
            while request := self._read(connection):
                self._pass_on(connection, *request)

    def _answer(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def _pass_on(self, connection: socket.socket, head: str, body: bytes) -> None:
        loss = None
        if head.startswith("POST"):
            with self._choosing:
                if self._random.random() < self._lost:
                    loss = self._random.choice(["request reset", "reply reset", "reply 502"])
        if loss == "request reset":
            self._count(loss)
            reset(connection)
            return
        content = self._forward(head, body)
        if not content.startswith(b"HTTP/1.1 200"):
            loss = None  # nothing was generated
        if loss:
            self._count(loss)
        if loss == "reply reset":
            reset(connection)
        elif loss == "reply 502":
            connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        else:
            connection.sendall(content)

    def _count(self, loss: str) -> None:
        with self._choosing:
            self.losses[loss] += 1

    def _forward(self, head: str, body: bytes) -> bytes:
        with socket.create_connection((self._target.hostname, self._target.port)) as server:
            server.sendall(head.encode("latin-1") + b"\r\n\r\n" + body)
            with server.makefile("rb") as stream:
                status = stream.readline()
                lines = []
                while (line := stream.readline()) not in (b"\r\n", b""):
                    lines.append(line)
                length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length"))
                return status + b"".join(lines) + b"\r\n" + stream.read(length)
