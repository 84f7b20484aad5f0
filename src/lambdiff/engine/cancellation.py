"""Cancels what an engine is doing, even in the middle of a denoising step, and before the interpreter ends.

An engine calls native code that Python cannot interrupt. It therefore starts such code in the background and waits for
it here: Ctrl-C raises KeyboardInterrupt from the wait, and the conditions of `cancelled_if` are checked meanwhile.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from lambdiff import forks
from lambdiff.errors import Cancelled

INTERVAL_S: Final = 0.05
"""How often conditions are checked while native code runs."""


class _Condition(NamedTuple):
    holds: Callable[[], bool]
    while_loading: bool


_conditions: ContextVar[tuple[_Condition, ...]] = ContextVar("conditions", default=())


@contextlib.contextmanager
def cancelled_if(condition: Callable[[], bool], *, while_loading: bool = True) -> Iterator[None]:
    """Cancel what an engine does in this block, on this thread, as soon as a condition holds.

    Args:
        condition: checked between and during denoising steps.
        while_loading: whether loading is cancelled too. What has been loaded until then is lost.
    """
    token = _conditions.set((*_conditions.get(), _Condition(condition, while_loading)))
    try:
        yield
    finally:
        _conditions.reset(token)


def check(*, loading: bool = False) -> None:
    """Check the conditions of the enclosing blocks.

    Raises:
        Cancelled: one of them holds.
        SystemExit: the interpreter is ending. It ends a thread without a message.
    """
    if _native_code.ending:
        raise SystemExit
    if any(each.holds() for each in _conditions.get() if each.while_loading or not loading):
        raise Cancelled("The request was cancelled.")


def wait_for_loading(parts: Collection[concurrent.futures.Future[Any]]) -> None:
    """Wait until all parts of a model are loaded, or one could not be.

    Raises:
        Cancelled: as `check`. Loading goes on in the background, because it cannot be stopped.
    """
    while concurrent.futures.wait(parts, INTERVAL_S).not_done:
        check(loading=True)


class _NativeCode:
    """The threads that execute an engine's code.

    When the interpreter ends, Python stops daemon threads as soon as they return from native code. If that is C++, the
    whole process crashes ("terminate called without an active exception", before Python 3.14). So the end of the
    interpreter waits for them, which takes no longer than a step's current operation or a compilation.
    """

    def __init__(self) -> None:
        self.ending = False
        self.renew_after_fork()
        forks.renew_in_children(self)
        atexit.register(self._end)

    def renew_after_fork(self) -> None:
        self._changed = threading.Condition()
        self._threads = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with self._changed:
            self._threads += 1
        try:
            yield
        finally:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    def _end(self) -> None:
        self.ending = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._threads == 0)
        except KeyboardInterrupt:  # again
            os._exit(130)


_native_code: Final = _NativeCode()


def native_code() -> contextlib.AbstractContextManager[None]:
    """Return the context in which an engine's code runs."""
    return _native_code.running()
