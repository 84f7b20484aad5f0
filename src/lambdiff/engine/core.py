"""The process's only `openvino.Core`, shared by every engine and never freed.

OpenVINO's CPU plugin installs an alternate signal stack for its thread. It removes the stack when the plugin's Core is
freed, but only if no later Core has installed another one. If Cores are freed in the order of their creation, the
thread keeps a stack that no longer exists, and the next signal crashes the process: Python handles all signals on the
alternate stack, so Ctrl-C after the second engine was freed caused a segmentation fault (OpenVINO 2026.4, Linux).
"""

from __future__ import annotations

import functools
import threading

from lambdiff.engine.without_telemetry import openvino

_creating = threading.Lock()


def core() -> openvino.Core:
    """Return the process's Core; it may be used from any thread."""
    with _creating:
        return _create()


@functools.cache
def _create() -> openvino.Core:
    return openvino.Core()
