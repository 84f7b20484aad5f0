"""Measure the machine's rate: the fastest matrix product at each precision, by torch or by OpenVINO.

    PYTHONPATH=tests python -m benchmarks.machine [SECONDS]    prints GFLOP/s as JSON (int8: billions of operations)

Run it with the same limits on processors and instructions as the contenders.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import torch
from openvino import opset13 as ops

SIDES = (1024, 2048, 4096)


def describe() -> dict[str, object]:
    """Return the processor, its instruction sets and the memory, as the kernel reports them."""
    from lambdiff.engine import cpu

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": name, "features": cpu.features(), "threads": cpu.threads(), "memory_gb": round(memory / 1e9, 1)}


def rate(product: Callable[[], object], side: int, seconds: float) -> float:
    """Return the GFLOP/s of the fastest product within the time, after one to warm up; at least one is measured."""
    product()
    fastest, end = float("inf"), time.perf_counter() + seconds
    while fastest == float("inf") or time.perf_counter() < end:
        began = time.perf_counter()
        product()
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * side**3 / fastest / 1e9


def by_torch(side: int, seconds: float) -> dict[str, float]:
    """Return the rates of torch's products, with bf16 only if the processor has it; otherwise it would take minutes."""
    from lambdiff.engine import cpu

    left, right = torch.randn(side, side), torch.randn(side, side)
    half = left.bfloat16(), right.bfloat16()
    eighth = (left * 20).to(torch.int8), (right * 20).to(torch.int8)
    rates = {
        "f32": rate(lambda: left @ right, side, seconds),
        "int8": rate(lambda: torch._int_mm(*eighth), side, seconds),
    }
    return rates | ({"bf16": rate(lambda: half[0] @ half[1], side, seconds)} if cpu.has_bf16() else {})


def by_openvino(side: int, seconds: float) -> dict[str, float]:
    """Return the rates of OpenVINO's products with a constant right side, with bf16 only if the engine would use it."""
    from lambdiff.engine import cpu

    weights = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    left = ops.parameter([side, side], np.float32)
    model = openvino.Model([ops.matmul(left, ops.constant(weights), False, False)], [left])
    rates = {}
    for precision in ("f32", *(["bf16"] if cpu.has_bf16() else [])):
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": cpu.threads()}
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(weights))
        rates[precision] = rate(request.infer, side, seconds)
    return rates


def measure(seconds: float) -> dict[str, float]:
    """Return the best rate of both libraries and all sizes, by precision; each kind of product runs for `seconds`."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    best: dict[str, float] = {}
    with torch.inference_mode():
        for library in (by_torch, by_openvino):
            for side in SIDES:
                for precision, value in library(side, seconds).items():
                    best[precision] = max(best.get(precision, 0.0), value)
    return best


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 0.7)))
