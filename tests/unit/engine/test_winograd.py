"""Rewritten convolutions give the same result, where they are rewritten at all."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from lambdiff.engine import winograd
from lambdiff.engine.core import core

pytestmark = pytest.mark.engine

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}


def random(*shape, dtype=np.float32):
    """Return values with a standard deviation of 1."""
    return np.random.default_rng(7).standard_normal(shape).astype(dtype)


def convolution(image, kernel, stride=1, pad=1, dilation=1):
    """Return a convolution with the same numbers in both directions."""
    return ops.convolution(image, kernel, [stride] * 2, [pad] * 2, [pad] * 2, [dilation] * 2)


def model(shape, outputs, kernel=None, **settings):
    """Return a model with one convolution and a bias."""
    image = ops.parameter(list(shape), np.float32)
    if kernel is None:
        kernel = ops.constant(random(outputs, shape[1], 3, 3) / np.float32(3 * shape[1] ** 0.5))
    result = ops.add(convolution(image, kernel, **settings), ops.constant(random(1, outputs, 1, 1)))
    return openvino.Model([result], [image])


def run(compiled_from, image):
    """Return the output for an image."""
    return core().compile_model(compiled_from, "CPU", SETTINGS)([image])[0]


def decibels(expected, actual):
    """Return the signal-to-noise ratio."""
    return 10 * np.log10(np.mean(expected**2) / np.mean((expected - actual) ** 2))


@pytest.mark.parametrize(
    "shape",
    [(1, 256, 32, 32), (2, 256, 32, 32), (1, 320, 31, 33), (3, 256, 18, 30), (1, 1280, 16, 16)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_the_result_is_the_same(shape):
    """Batches and sizes that are no multiples of the tiles give the direct result, up to rounding."""
    rewritten = model(shape, 256)
    expected = run(rewritten.clone(), random(*shape))
    assert winograd.rewrite(rewritten, 1e9) == 1
    assert "Convolution" not in {node.get_type_name() for node in rewritten.get_ops()}
    assert decibels(expected, run(rewritten, random(*shape))) > 100


def eight_bits():
    """Return a kernel in eight bits, as `bake --precision int8` stores it."""
    quantized = ops.constant((random(256, 256, 3, 3) * 30).clip(-127, 127).astype(np.int8))
    return ops.multiply(ops.convert(quantized, "f32"), ops.constant(np.float32(0.001)))


@pytest.mark.parametrize(
    "kernel", [lambda: ops.convert(ops.constant(random(256, 256, 3, 3, dtype=np.float16)), "f32"), eight_bits]
)
def test_stored_weights_are_decompressed(kernel):
    """Weights may be stored in f16 or in eight bits."""
    rewritten = model((1, 256, 32, 32), 256, kernel())
    expected = run(rewritten.clone(), random(1, 256, 32, 32))
    assert winograd.rewrite(rewritten, 1e9) == 1
    assert decibels(expected, run(rewritten, random(1, 256, 32, 32))) > 100


@pytest.mark.parametrize(
    "direct",
    [
        model((1, 256, 32, 32), 256, stride=2),
        model((1, 256, 32, 32), 256, pad=0),
        model((1, 256, 32, 32), 256, dilation=2, pad=2),
        model((1, 256, 64, 64), 512, ops.constant(random(512, 256, 1, 1)), pad=0),
        model((1, 64, 256, 256), 64),  # as fast with all multiplications
        model((2, 1280, 8, 8), 1280),
        model((1, 32, 32, 32), 32),  # too little work
    ],
    ids=["stride", "no padding", "dilation", "1x1", "few channels", "few pixels", "small"],
)
def test_other_convolutions_stay(direct):
    """What is no such convolution, or would not become faster, is left alone."""
    assert winograd.rewrite(direct, 1e12) == 0
    assert "Convolution" in {node.get_type_name() for node in direct.get_ops()}


def test_dynamic_shapes_and_computed_weights_stay():
    """A convolution is rewritten only if its shapes and weights are known."""
    image = ops.parameter([1, 256, -1, -1], np.float32)
    assert winograd.rewrite(openvino.Model([convolution(image, random(256, 256, 3, 3))], [image]), 1e12) == 0
    image, kernel = ops.parameter([1, 256, 32, 32], np.float32), ops.parameter([256, 256, 3, 3], np.float32)
    assert winograd.rewrite(openvino.Model([convolution(image, kernel)], [image, kernel]), 1e12) == 0
    low, high = (ops.constant(np.float32(value)) for value in (-1, 1))
    quantized = ops.fake_quantize(ops.constant(random(256, 256, 3, 3)), low, high, low, high, 255)
    assert winograd.rewrite(model((1, 256, 32, 32), 256, quantized), 1e12) == 0


def test_memory_goes_to_the_convolutions_that_save_most_for_it():
    """With memory for one of two convolutions, the one with more pixels is rewritten."""
    image = ops.parameter([1, 256, 64, 64], np.float32)
    large = convolution(image, random(256, 256, 3, 3) / np.float32(48))
    large.set_friendly_name("large")
    small = convolution(ops.avg_pool(large, [2, 2], [0, 0], [0, 0], [2, 2], False), random(256, 256, 3, 3))
    small.set_friendly_name("small")
    both = openvino.Model([small], [image])
    extra = 4 * 27 * 256 * 256
    assert winograd.rewrite(both.clone(), extra - 1) == 0
    assert winograd.rewrite(both.clone(), 2 * extra) == 2
    assert winograd.rewrite(both, 2 * extra - 1) == 1
    assert [node.get_friendly_name() for node in both.get_ops() if node.get_type_name() == "Convolution"] == ["small"]


def test_weight_bytes_counts_f32():
    """Weights count with the size that they have in f32, whatever they are stored in."""
    half = ops.convert(ops.constant(random(256, 256, 3, 3, dtype=np.float16)), "f32")
    assert winograd.weight_bytes(model((1, 256, 32, 32), 256, half)) == 4 * (256 * 256 * 9 + 256)
