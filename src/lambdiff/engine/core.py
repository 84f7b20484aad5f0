"""The one `openvino.Core` of the process, shared by every engine and never freed.

OpenVINO's CPU plugin gives its thread an alternate signal stack, and removes it when the plugin's Core is freed, but
only if no later Core has set another one meanwhile. If Cores are freed in the order of their creation, the thread is
left with a stack that no longer exists, and the next signal ends the process: Python handles all signals on the
alternate stack, so Ctrl-C after a second engine was gone was a segmentation fault (OpenVINO 2026.4, Linux).
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
