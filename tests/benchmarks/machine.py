"""The machine's own rate: the quickest product of two matrices, at each precision, by torch and by OpenVINO.

    PYTHONPATH=tests python -m benchmarks.machine [SECONDS]    one line of JSON, GFLOP/s (int8: billions of operations)

Run it in a process held to a number of processors or to an instruction set, as the contenders are.
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
    """The processor and what it can do, by the kernel's account."""
    from lambdiff.engine import cpu

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": name, "features": cpu.features(), "threads": cpu.threads(), "memory_gb": round(memory / 1e9, 1)}


def rate(product: Callable[[], object], side: int, seconds: float) -> float:
    """GFLOP/s of the quickest of the products that fit into the time, after one to warm up; of one at least."""
    product()
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        began = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best / 1e9


def by_torch(side: int, seconds: float) -> dict[str, float]:
    """Rates of torch's products; without bf16 instructions its bf16 would take minutes."""
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
    """Rates of OpenVINO's products with a constant right side; bf16 only where the engine would use it."""
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
    """The best of both libraries and all sides, by precision; `seconds` are given to each kind of product."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    found: dict[str, float] = {}
    with torch.inference_mode():
        for library in (by_torch, by_openvino):
            for side in SIDES:
                for precision, value in library(side, seconds).items():
                    found[precision] = max(found.get(precision, 0.0), value)
    return found


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 0.7)))
