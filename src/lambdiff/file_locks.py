"""Change a file that other processes change too, one process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lambdiff.errors import OutputError


@contextlib.contextmanager
def locked(path: Path, *, patience: float = 10.0) -> Iterator[None]:
    """Hold the lock of a file while it is read, changed and written.

    The lock belongs to the operating system, which releases it when the process ends, even by SIGKILL. It is taken on a
    file next to `path` that stays: `path` itself is replaced by each write, and a lock on what was replaced excludes
    nobody. If the file system supports no locks or is read-only, there is no lock.

    Args:
        path: the file. A missing folder is created, readable by its owner only.
        patience: how long to wait for another process, in seconds.

    Raises:
        OutputError: another process holds the lock all that time.

    Example:
        >>> counter = Path("counter")
        >>> with locked(counter):
        ...     counter.write_text(str(int(counter.read_text() if counter.exists() else 0) + 1))
        1
    """
    from filelock import FileLock, Timeout

    # No soft lock instead: it is a file, which a killed process leaves behind.
    name = path.with_name(f"{path.name}.lock")
    lock = FileLock(name, timeout=patience, poll_interval=0.01, fallback_to_soft=False)
    # Without a lock, the caller's own write says what is wrong with the folder.
    with contextlib.suppress(OSError, NotImplementedError):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:  # which is an OSError
            raise OutputError(
                f"Another process has been changing {path} for {patience:.0f} seconds.", fix="End it, then try again."
            ) from None
    try:
        yield
    finally:
        lock.release()
