"""A DNS server on loopback that resolves the cloud's host names to this machine and forwards all other queries."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path

ADDRESS = "127.0.0.77"
A, IN = 1, 1


class Resolver:
    """Answers queries from a background thread until `close`.

    Args:
        addresses: IPv4 addresses by the ending of the host names that resolve to them.
    """

    def __init__(self, addresses: dict[str, str]) -> None:
        self._addresses = addresses
        self._upstream = next(
            line.split()[1] for line in Path("/etc/resolv.conf").read_text().splitlines() if line[:10] == "nameserver"
        )
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((ADDRESS, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering. The address is free only when the thread no longer waits for a query."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, sender = self._socket.recvfrom(4096)
                if not query:  # the socket was shut down
                    return
                threading.Thread(target=self._answer, args=(query, sender), daemon=True).start()

    def _answer(self, query: bytes, sender: tuple[str, int]) -> None:
        name, kind, end = question(query)
        address = next((each for suffix, each in self._addresses.items() if name.endswith(suffix)), None)
        if address:
            reply = local(query, kind, end, address)
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
                upstream.settimeout(10)
                upstream.sendto(query, (self._upstream, 53))
                try:
                    reply = upstream.recv(4096)
                except OSError:
                    return
        with contextlib.suppress(OSError):
            self._socket.sendto(reply, sender)


def question(query: bytes) -> tuple[str, int, int]:
    """Return the name, the type and the end of the question of a query (RFC 1035, 4.1.2)."""
    labels, position = [], 12
    while length := query[position]:
        labels.append(query[position + 1 : position + 1 + length].decode("ascii", "replace").lower())
        position += 1 + length
    return ".".join(labels), struct.unpack_from(">H", query, position + 1)[0], position + 5


def local(query: bytes, kind: int, end: int, address: str) -> bytes:
    """Return the reply to a query: the address for type A, no record for any other type."""
    is_address = kind == A
    header = query[:2] + struct.pack(">HHHHH", 0x8580, 1, int(is_address), 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, A, IN, 1, 4) + socket.inet_aton(address) if is_address else b""
    return header + query[12:end] + record
