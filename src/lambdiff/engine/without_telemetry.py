"""Import OpenVINO without its telemetry, and its model converter only when it is called.

OpenVINO reports every import to its maker unless its telemetry package cannot be imported. Importing the converter
takes as long as the rest of OpenVINO, and only `lambdiff bake` needs it. Import OpenVINO from here:

    from lambdiff.engine.without_telemetry import openvino
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

_CONVERTER: Final = "openvino.tools.ovc"


def _convert_model(*arguments: Any, **options: Any) -> Any:
    """`openvino.convert_model`, imported at its first call."""
    openvino.convert_model = importlib.import_module(_CONVERTER).convert_model
    return openvino.convert_model(*arguments, **options)


sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
if "openvino" in sys.modules:
    import openvino
else:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        del sys.modules[_CONVERTER]
    openvino.convert_model = _convert_model

__all__ = ["openvino"]
