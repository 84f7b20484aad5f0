"""Which process makes an image: one lock for each key, in a single file.

A key stands for one byte of the file, far behind its end, and a process that makes the image locks that byte. The
operating system releases it when the process ends, even by SIGKILL, so that nothing has to be taken over or cleaned up.
POSIX locks of this kind also work between machines that share a folder through NFS.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Final

_SPAN: Final = 2**62
"""Keys are numbers below this: offsets of files have 63 bits."""


class KeyLocks:
    """The locks of one folder. May be used from several threads.

    Args:
        path: the file; created if it is missing.

    Attributes:
        supported: whether the file system has such locks. Without them, every lock is granted.

    Raises:
        OSError: the file cannot be opened.

    Example:
        >>> with KeyLocks(Path("locks")) as locks:
        ...     locks.acquire("ab" * 32), locks.acquire("ab" * 32), locks.acquire("cd" * 32)
        (True, False, True)
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        self._held: set[int] = set()
        self._mutex = threading.Lock()
        self.supported = True

    def acquire(self, key: str) -> bool:
        """Take the lock of a key; False if another process, or this one, has it."""
        offset = _offset(key)
        with self._mutex:
            # POSIX locks do not exclude the process that holds them.
            if offset in self._held or not self._lock(offset):
                return False
            self._held.add(offset)
            return True

    def release(self, key: str) -> None:
        """Release a lock that `acquire` has granted."""
        offset = _offset(key)
        with self._mutex:
            self._held.discard(offset)
            _unlock(self._descriptor, offset)

    def close(self) -> None:
        """Release all locks. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> KeyLocks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self, offset: int) -> bool:
        try:
            return _try_lock(self._descriptor, offset)
        except OSError:  # no locks on this file system
            self.supported = False
            return True


def _offset(key: str) -> int:
    return int(key[:16], 16) % _SPAN


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int, offset: int) -> bool:
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int, offset: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int, offset: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES
            return False
        return True

    def _unlock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)
