"""How long an image of a catalogue model takes on this machine: its operations over a measured rate."""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from lambdiff.engine import cpu

_SIDE: Final = 2048
_ROUNDS: Final = 3
_REACHED: Final = 0.8
"""The share of the rate of large matrix products that a whole image reaches; see `docs/performance.md`."""


def measure_rate() -> float | None:
    """Return the TFLOP/s that images are generated with, from a short matrix product, or None without OpenVINO.

    The arithmetic is the engine's: bf16 if the processor has it, otherwise f32.
    """
    try:
        from lambdiff.engine.core import core
        from lambdiff.engine.without_telemetry import openvino
    except ImportError:
        return None
    ops = openvino.opset15
    weights = np.random.default_rng(0).standard_normal((_SIDE, _SIDE), dtype=np.float32)
    left = ops.parameter([_SIDE, _SIDE], np.float32)
    model = openvino.Model([ops.matmul(left, ops.constant(weights), False, False)], [left])
    precision = "bf16" if cpu.has_bf16() else "f32"
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": cpu.threads()}
    request = core().compile_model(model, "CPU", settings).create_infer_request()
    times = []
    for _ in range(1 + _ROUNDS):
        began = time.perf_counter()
        request.infer([weights], share_inputs=True)
        times.append(time.perf_counter() - began)
    return _REACHED * 2 * _SIDE**3 / min(times) / 1e12
