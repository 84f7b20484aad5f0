"""Native libraries in forked processes.

OpenVINO and PyTorch have threads of their own. A forked child lacks them, so it would wait for ever: for them, or for a
lock that one of them held. A library that a process has used can therefore not be used in its forked children.
"""

from __future__ import annotations

from typing import Final

from lambdiff import forks
from lambdiff.errors import ConfigurationError

_libraries: Final[list[NativeLibrary]] = []


class NativeLibrary:
    """A library with threads of its own.

    Args:
        name: for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._used = self._unusable = False
        _libraries.append(self)
        forks.renew_in_children(self)

    @property
    def unusable(self) -> bool:
        """Whether this process was forked after the library had been used."""
        return self._unusable

    def use(self) -> None:
        """Take note that this process uses the library; call it before each use.

        Raises:
            ConfigurationError: the library is unusable here.
        """
        if self._unusable:
            raise ConfigurationError(
                f"{self._name} cannot be used in a process that was forked after its parent had used it.",
                fix='Start processes with the method "spawn" of `multiprocessing`, or fork before the first image.',
            )
        self._used = True

    def renew_after_fork(self) -> None:
        """Take note of the fork."""
        self._unusable = self._used


def any_unusable() -> bool:
    """Return whether this process was forked after a library had been used."""
    return any(library.unusable for library in _libraries)
