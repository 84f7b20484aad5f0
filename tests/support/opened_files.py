"""Count how often the files of a folder are opened, by any code, with inotify (Linux)."""

from __future__ import annotations

import collections
import ctypes
import os
import struct
from pathlib import Path
from typing import Self

_OPEN, _CLOSE = 0x20, 0x18  # <sys/inotify.h>; the kernel merges equal consecutive events, so closing is watched as well
_HEADER = struct.Struct("iIII")


class OpenedFiles:
    """Counts openings while the context is active.

    Args:
        folder: the folder to watch, without its subfolders.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> Self:
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        if self._libc.inotify_add_watch(self._descriptor, os.fsencode(self._folder), _OPEN | _CLOSE) < 0:
            raise OSError(ctypes.get_errno(), f"{self._folder} cannot be watched")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def take(self) -> dict[str, int]:
        """Return the number of openings since the last call, by file name."""
        counts: collections.Counter[str] = collections.Counter()
        while events := self._read():
            while events:
                _, mask, _, length = _HEADER.unpack_from(events)
                name = events[_HEADER.size : _HEADER.size + length].rstrip(b"\0").decode()
                counts[name] += bool(mask & _OPEN and name)
                events = events[_HEADER.size + length :]
        return {name: count for name, count in counts.items() if count}

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return b""
