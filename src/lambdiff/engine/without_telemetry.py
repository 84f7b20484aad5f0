"""Import OpenVINO without its telemetry.

OpenVINO reports every import to its maker unless its telemetry package cannot be imported. Import it from here:

    from lambdiff.engine.without_telemetry import openvino
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402 -- after the line above

__all__ = ["openvino"]
