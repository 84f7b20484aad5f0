"""The process's only `openvino.Core`, shared by every engine and never freed.

OpenVINO's CPU plugin installs an alternate signal stack for its thread. It removes the stack when the plugin's Core is
freed, but only if no later Core has installed another one. If Cores are freed in the order of their creation, the
thread keeps a stack that no longer exists, and the next signal crashes the process: Python handles all signals on the
alternate stack, so Ctrl-C after the second engine was freed caused a segmentation fault (OpenVINO 2026.4, Linux).

A forked child can neither use OpenVINO (see `native_library`) nor free what it has inherited: that too would wait for
threads that the child lacks.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Final

from lambdiff import forks
from lambdiff.engine.native_library import NativeLibrary
from lambdiff.engine.without_telemetry import openvino


class _SharedCore:
    def __init__(self) -> None:
        self._creating = threading.Lock()
        self._core: openvino.Core | None = None
        self._library = NativeLibrary("OpenVINO")
        forks.renew_in_children(self)

    def get(self) -> openvino.Core:
        self._library.use()
        with self._creating:
            if self._core is None:
                self._core = openvino.Core()
            return self._core

    def renew_after_fork(self) -> None:
        never_free(self._core)
        self._creating = threading.Lock()


_shared: Final = _SharedCore()


def core() -> openvino.Core:
    """Return the process's Core; it may be used from any thread.

    Raises:
        ConfigurationError: this process was forked after OpenVINO had been used.
    """
    return _shared.get()


def never_free(inherited: object) -> None:
    """Keep an object that a forked child has inherited, and what it refers to, even when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
