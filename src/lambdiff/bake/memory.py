"""Estimate how much memory a baked model needs: its weights as they are executed, and the buffers of an image.

Weights are compiled to the arithmetic, whatever they are stored in, except that eight-bit matrices stay as they are.
Eight-bit kernels of convolutions do not: OpenVINO expands them to f32, and keeps both copies. With eight-bit
activations everything stays in eight bits. The buffers grow with the pixels. The figures were measured with the sizes
of Segmind-Vega.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np

from lambdiff.engine.core import core
from lambdiff.engine.manifest import Manifest, Memory
from lambdiff.engine.without_telemetry import openvino

_Arithmetic = Literal["bf16", "f32"]
_WIDTH: Final[Mapping[_Arithmetic, int]] = {"bf16": 2, "f32": 4}
_EIGHT_BITS: Final = ("i8", "u8")
_KERNEL_RANK: Final = 4
_EXPANDED: Final = 4
"""Bytes of the f32 copy of an eight-bit kernel."""
_QUANTIZED: Final = 1.25
"""Memory over the size of weights, with eight-bit activations."""
_DECODER: Final = {"full": 800, "tiny": 250}
"""Values that a decoder's buffers hold for each pixel."""
_UNET: Final = 65
"""Values that the UNet's buffers hold for each pixel and sample."""
_DYNAMIC: Final = 1.8
"""The factor of buffers with dynamic shapes."""
_PROCESS: Final = 250e6
"""Bytes of the process itself, with Python and its libraries."""
_MB: Final = 2**20
LAMBDA_MB: Final = 10_240
"""The most that a Lambda function may have."""


def estimate(folder: Path, manifest: Manifest) -> Memory:
    """Return the memory that requests with the model's defaults need, with each arithmetic.

    Args:
        folder: a complete folder for the OpenVINO engine.
        manifest: its manifest.
    """
    models = [core().read_model(path) for path in sorted(folder.glob("*.xml"))]

    def needed(arithmetic: _Arithmetic) -> int:
        weights = sum(_weights(model, arithmetic) for model in models)
        return round((weights + _buffers(manifest, _WIDTH[arithmetic]) + _PROCESS) / _MB)

    f32 = needed("f32")
    return Memory(bf16_mb=f32 if manifest.inference_precision == "f32" else needed("bf16"), f32_mb=f32)


def _weights(model: openvino.Model, arithmetic: _Arithmetic) -> float:
    """Return the bytes of a model's weights in memory."""
    operations = model.get_ops()
    quantized = any(node.get_type_name() == "FakeQuantize" for node in operations)
    total = 0.0
    for node in operations:
        if node.get_type_name() != "Constant":
            continue
        shape = node.get_output_shape(0)
        size = float(np.prod(shape, dtype=np.float64))
        if node.get_output_element_type(0).get_type_name() not in _EIGHT_BITS:
            total += size * _WIDTH[arithmetic]
        elif quantized:
            total += size * _QUANTIZED
        else:
            total += size * (_EXPANDED + _WIDTH[arithmetic] if len(shape) == _KERNEL_RANK else 1)
    return total


def _buffers(manifest: Manifest, width: int) -> float:
    """Return the bytes of the buffers of an image with the model's defaults."""
    defaults = manifest.defaults
    side = manifest.native_size or (defaults.width, defaults.height)
    pixels = side[0] * side[1]
    guided = defaults.guidance_scale > 1 and not manifest.guidance_embedding
    unet = _UNET * (2 if guided else 1)
    # The engine releases the UNet's buffers before a full decoder runs.
    values = _DECODER["tiny"] + unet if manifest.tiny_decoder else max(_DECODER["full"], unet)
    static = manifest.static_shapes or manifest.native_size is not None
    return values * pixels * width * (1.0 if static else _DYNAMIC)
