"""Forked processes: a child shares no lock and no connection with its parent.

After a fork, the child has a copy of everything except the other threads. A lock that one of them held is never
released, and what is read from a connection may be the reply to the parent's request. An object that has either
registers itself with `renew_in_children`.

Modules have locks too, while they are imported. What a request needs is therefore imported when a client is opened, and
a fork waits until other threads have opened theirs (`postponed`).
"""

from __future__ import annotations

# Both register hooks, which must not happen while a fork waits in `_before`.
import concurrent.futures.thread  # noqa: F401
import contextlib
import logging  # noqa: F401
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Final, Protocol

_PATIENCE: Final = 10.0
"""Seconds after which a fork goes ahead all the same, because the other thread may be waiting for the forking one."""


class Renewable(Protocol):
    """An object with locks or connections."""

    def renew_after_fork(self) -> None:
        """Replace them, in the child. Use no lock: nobody else runs, and whoever held it does not exist."""


_renewable: Final[weakref.WeakSet[Renewable]] = weakref.WeakSet()
_importing = threading.RLock()
_forking: Final[set[int]] = set()
"""The threads that hold `_importing` for a fork."""


def renew_in_children(owner: Renewable) -> None:
    """Call `owner.renew_after_fork` in every child that this process forks, before anything else runs there."""
    _renewable.add(owner)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Let other threads that want to fork wait while this one imports modules."""
    with _importing:
        yield


def _before() -> None:
    if _importing.acquire(timeout=_PATIENCE):
        _forking.add(threading.get_ident())


def _after_in_parent() -> None:
    if threading.get_ident() in _forking:
        _forking.remove(threading.get_ident())
        _importing.release()


def _after_in_child() -> None:
    global _importing  # noqa: PLW0603 (another thread may hold the lock)
    _importing = threading.RLock()
    _forking.clear()
    for owner in list(_renewable):
        owner.renew_after_fork()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
