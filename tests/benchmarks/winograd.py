"""Measure Winograd convolutions against direct ones, layer by layer; `engine/winograd.py` has its constants from here.

    ONEDNN_MAX_CPU_ISA=AVX2 PYTHONPATH=tests python -m benchmarks.winograd [ROUNDS]

Prints, for each layer, the milliseconds of both forms in f32 (the fastest of interleaved rounds), their ratio, and
whether the engine would rewrite the layer.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import openvino
from openvino import opset13 as ops

from lambdiff.engine import winograd
from lambdiff.engine.core import core

LAYERS = (
    (2, 320, 320, 64), (2, 960, 320, 64), (2, 640, 640, 32), (2, 1920, 640, 32), (2, 1280, 1280, 16),
    (2, 2560, 1280, 16), (2, 1280, 1280, 8), (2, 2560, 1280, 8), (1, 320, 320, 64), (1, 1280, 1280, 16),
    (1, 1280, 1280, 8), (1, 512, 512, 64), (1, 512, 512, 128), (1, 512, 256, 128), (1, 256, 256, 128),
    (1, 256, 128, 256), (1, 192, 192, 64), (1, 128, 128, 128), (1, 128, 128, 256), (1, 64, 64, 256),
)  # fmt: skip
"""(batch, input channels, output channels, side): layers of UNets and decoders at 512x512."""
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}


def layer(batch: int, inputs: int, outputs: int, side: int) -> openvino.Model:
    """Return a model of one layer with random weights."""
    kernel = np.random.default_rng(0).standard_normal((outputs, inputs, 3, 3)).astype(np.float32)
    image = ops.parameter([batch, inputs, side, side], np.float32)
    return openvino.Model([ops.convolution(image, ops.constant(kernel), *[[1, 1]] * 4)], [image])


def milliseconds(models: list[openvino.Model], rounds: int) -> list[float]:
    """Return the time of each model's call: the fastest of interleaved rounds."""
    requests = [core().compile_model(model, "CPU", SETTINGS).create_infer_request() for model in models]
    image = np.ones(requests[0].model_inputs[0].shape, np.float32)
    fastest = [float("inf")] * len(requests)
    for _ in range(rounds + 1):  # one more to warm up
        for index, request in enumerate(requests):
            began = time.perf_counter()
            request.infer([image], share_inputs=True, share_outputs=True)
            fastest[index] = min(fastest[index], time.perf_counter() - began)
    return [1000 * seconds for seconds in fastest]


def main(rounds: int) -> None:
    """Measure every layer; those that the engine would not rewrite are rewritten for the comparison."""
    worthwhile, margin = winograd._WORTHWHILE, winograd._MARGIN
    for shape in LAYERS:
        direct, rewritten = layer(*shape), layer(*shape)
        chosen = winograd.rewrite(rewritten, 1e12)
        if not chosen:
            winograd._WORTHWHILE, winograd._MARGIN = 0.0, 0.0
            winograd.rewrite(rewritten, 1e12)
            winograd._WORTHWHILE, winograd._MARGIN = worthwhile, margin
        before, after = milliseconds([direct, rewritten], rounds)
        words = "rewritten" if chosen else "left"
        print(f"{shape}: {before:.1f} ms direct, {after:.1f} ms Winograd, {before / after:.2f}x, {words}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
