"""Counts how often the files of a folder are opened, by whatever code: inotify, so Linux only."""

from __future__ import annotations

import collections
import ctypes
import os
import struct
from pathlib import Path
from typing import Self

_OPEN, _CLOSE = 0x20, 0x18  # <sys/inotify.h>; closing is watched so that no two events are alike and become one
_HEADER = struct.Struct("iIII")


class OpenedFiles:
    """A context in which openings are counted.

    Args:
        folder: watched without its subfolders.
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
        """Openings by name since the last call."""
        found: collections.Counter[str] = collections.Counter()
        while events := self._read():
            while events:
                _, mask, _, length = _HEADER.unpack_from(events)
                name = events[_HEADER.size : _HEADER.size + length].rstrip(b"\0").decode()
                found[name] += bool(mask & _OPEN and name)
                events = events[_HEADER.size + length :]
        return {name: count for name, count in found.items() if count}

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return b""
