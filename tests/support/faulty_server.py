"""An HTTP server on loopback that misbehaves according to a script and records what it receives."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

Answer = Callable[[socket.socket], None]


class FaultyServer:
    """Reads complete requests and answers each with the next entry of the script; the last entry is used repeatedly.

    Args:
        script: the answers.
        host: the address to listen on.
        certificate: the files with a certificate and its key; without them the server does not speak TLS.

    Attributes:
        posts: the bodies of the POST requests, in order.
        heads: the heads of all requests, in order.
    """

    def __init__(self, *script: Answer, host: str = "127.0.0.1", certificate: tuple[Path, Path] | None = None) -> None:
        self._script = list(script)
        self.posts: list[bytes] = []
        self.heads: list[str] = []
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._tls and certificate:
            self._tls.load_cert_chain(*certificate)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http{'s' if certificate else ''}://{shown}:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> FaultyServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # as on macOS
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread would wait in `accept` for ever
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            connection = held.enter_context(connection)
            if self._tls:
                connection = held.enter_context(self._tls.wrap_socket(connection, server_side=True))
            while request := self._read(connection):
                head, body = request
                with self._lock:
                    self.heads.append(head)
                    if head.startswith("POST"):
                        self.posts.append(body)
                    answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
                answer(connection)

    @staticmethod
    def _read(connection: socket.socket) -> tuple[str, bytes] | None:
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = connection.recv(65536)
            if not chunk:
                return None
            received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        return head.decode("latin-1"), body


def reply(status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> Answer:
    """Return an answer that sends a complete reply, or with `length` one whose Content-Length is wrong."""
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    content = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    def send(connection: socket.socket) -> None:
        connection.sendall(content)
        if length is not None:
            connection.close()

    return send


def reset(connection: socket.socket) -> None:
    """Reset the TCP connection after reading the request."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close(connection: socket.socket) -> None:
    """Close the connection without a reply."""
    connection.close()


def stall(connection: socket.socket) -> None:
    """Send nothing until the client gives up."""
    connection.recv(1)


def drip(body: bytes, pause: float, sent: list[int] | None = None, **headers: str) -> Answer:
    """Return an answer that sends about twenty pieces, `pause` seconds apart, and appends their sizes to `sent`."""

    def send(connection: socket.socket) -> None:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join(["HTTP/1.1 200 OK", f"content-length: {len(body)}", *lines, "", ""]).encode())
        size = max(1, len(body) // 20)
        for start in range(0, len(body), size):
            connection.sendall(body[start : start + size])
            if sent is not None:
                sent.append(size)
            time.sleep(pause)

    return send


def trickle(start: bytes, unit: bytes = b"x", pause: float = 0.02) -> Answer:
    """Return an answer that sends `start` at once, and then `unit` again and again, until the client gives up."""

    def send(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(unit)
            time.sleep(pause)

    return send


def flood(start: bytes, unit: bytes) -> Answer:
    """Return an answer that sends `start`, and then `unit` as fast as it can, until the client gives up."""
    return trickle(start, unit * max(1, 65_536 // len(unit)), 0)
