"""The estimate of the memory that a model needs (bake/memory.py)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import openvino
import pytest
from openvino import opset15

from lambdiff.bake import memory
from lambdiff.engine.manifest import Manifest, Memory
from lambdiff.protocol.contract import Defaults

pytestmark = pytest.mark.engine

DEFAULTS = Defaults(num_inference_steps=1, guidance_scale=0.0, width=512, height=512, scheduler="euler")
SIDE = 4096
MILLIONS = 16 * 2**20
"""The number of weights of each model below."""


def save(folder: Path, kind: str, stored: str) -> None:
    """Save a model with one matrix or one kernel of 16 * 2^20 weights, stored as `f16` or `u8`."""
    shape = (SIDE, SIDE) if kind == "matrix" else (SIDE, SIDE // 16, 4, 4)
    values = np.ones(shape, np.float16 if stored == "f16" else np.uint8)
    values.ravel()[0] = 2
    weights = opset15.convert(opset15.constant(values), np.float32)
    if kind == "matrix":
        data = opset15.parameter([1, SIDE], np.float32)
        result = opset15.matmul(data, weights, False, False)
    else:
        data = opset15.parameter([1, SIDE // 16, 8, 8], np.float32)
        result = opset15.convolution(data, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    openvino.save_model(openvino.Model([result], [data]), folder / "unet.xml", compress_to_fp16=False)


def needed(folder: Path, **changes: object) -> Memory:
    """Return the estimate for a folder."""
    manifest = Manifest(
        format=1, name="m", revision="1", license="MIT", engine="openvino", precision="f16", defaults=DEFAULTS,
        files=[], static_shapes=True,
    )  # fmt: skip
    return memory.estimate(folder, msgspec.structs.replace(manifest, **changes))


@pytest.mark.parametrize(
    ("kind", "stored", "bf16", "f32"),
    [("matrix", "f16", 2, 4), ("kernel", "f16", 2, 4), ("matrix", "u8", 1, 1), ("kernel", "u8", 6, 8)],
)
def test_weights_count_as_they_are_executed(tmp_path: Path, kind: str, stored: str, bf16: int, f32: int) -> None:
    """f16 is compiled to the arithmetic; eight-bit matrices stay as they are, and eight-bit kernels are expanded."""
    save(tmp_path, kind, stored)
    tiny = msgspec.structs.replace(DEFAULTS, width=64, height=64)
    found = needed(tmp_path, defaults=tiny)
    process = memory._PROCESS / 2**20
    assert found.bf16_mb == pytest.approx(16 * bf16 + process, abs=16)
    assert found.f32_mb == pytest.approx(16 * f32 + process, abs=16)


def test_buffers_grow_with_pixels(tmp_path: Path) -> None:
    """Pixels, guidance and dynamic shapes need more; a tiny decoder needs less, and bf16 half."""
    save(tmp_path, "matrix", "u8")
    full = needed(tmp_path)
    large = msgspec.structs.replace(DEFAULTS, width=1024, height=1024)
    base = 16 + memory._PROCESS / 2**20
    assert needed(tmp_path, defaults=large).f32_mb - base == pytest.approx(4 * (full.f32_mb - base), rel=0.02)
    assert full.f32_mb - base == pytest.approx(2 * (full.bf16_mb - base), rel=0.02)
    assert needed(tmp_path, tiny_decoder=True).f32_mb < full.f32_mb < needed(tmp_path, static_shapes=False).f32_mb
    guided = msgspec.structs.replace(DEFAULTS, guidance_scale=5.0)
    tiny = needed(tmp_path, tiny_decoder=True).f32_mb
    assert needed(tmp_path, tiny_decoder=True, defaults=guided).f32_mb > tiny
    assert needed(tmp_path, inference_precision="f32") == Memory(bf16_mb=full.f32_mb, f32_mb=full.f32_mb)
