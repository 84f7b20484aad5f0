"""The one `openvino.Core` of the process, shared by every engine and never freed.

OpenVINO's CPU plugin gives its thread an alternate signal stack and takes it back when the plugin's Core is freed, but
only if no later Core has set another one meanwhile. If Cores are freed in the order in which they were made, the thread
keeps a stack that no longer exists, and the next signal ends the process: Python handles all signals on the alternate
stack, so Ctrl-C after a second engine is gone was a segmentation fault (OpenVINO 2026.4, Linux).
"""

from __future__ import annotations

import functools
import sys
import threading

# OpenVINO reports every import to its maker unless its telemetry package cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402 -- after the line above

_making = threading.Lock()


def core() -> openvino.Core:
    """Return the process's Core; it may be used from any thread."""
    with _making:
        return _make()


@functools.cache
def _make() -> openvino.Core:
    return openvino.Core()
