"""3x3 convolutions with a quarter of the multiplications, for f32 arithmetic.

Winograd's minimal filtering F(4x4, 3x3) computes a tile of 4x4 outputs from 6x6 inputs with 36 multiplications instead
of 144 (Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.3):

    Y = A^T [ (G g G^T) * (B^T d B) ] A

The transformed weights `G g G^T` are computed when a graph is loaded. In the graph, everything else is a matrix
multiplication: of the tiles with B x B, of 36 pairs of matrices over the channels, and of the products with A x A.
OpenVINO's CPU plugin has no Winograd convolution of its own.

The result differs from the direct one by rounding only (at least 100 dB in f32). In bf16 it would be 34 dB, so graphs
with bf16 arithmetic stay as they are, as do dynamic shapes. The transformed weights take four times the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lambdiff.engine.without_telemetry import openvino

Matrix = NDArray[np.float32]

_B: Final = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_G: Final = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float64,
)
_A: Final = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float32,
)
_TILE: Final = 4
_INPUTS: Final = 36
"""The values that a tile is computed from: 6 x 6."""
_FLOAT: Final = 4
"""Bytes of a value."""
_WORTHWHILE: Final = 1e9
"""The operations of a convolution for which the rewrite is worth a more complicated graph."""
_MARGIN: Final = 1.1
"""How much faster a convolution must be expected to become."""
_SLOWER: Final = 1.2
"""Time of an operation in the 36 matrix multiplications over that of one in a convolution."""
_VALUE: Final = 110
"""Operations of a convolution in the time that moves one value of the tiles to and from memory."""
_WEIGHT: Final = 40
"""The same for one transformed weight, which is only read."""


@dataclass(frozen=True)
class _Layer:
    """A convolution that can be rewritten."""

    node: openvino.Node
    batch: int
    inputs: int
    outputs: int
    height: int
    width: int

    @property
    def operations(self) -> float:
        return 2.0 * 9 * self.batch * self.inputs * self.outputs * self.height * self.width

    @property
    def tiles(self) -> int:
        return -(-self.height // _TILE) * -(-self.width // _TILE)

    @property
    def weights(self) -> int:
        """The number of transformed weights."""
        return _INPUTS * self.inputs * self.outputs

    @property
    def extra_bytes(self) -> int:
        """The memory of the transformed weights, less that of the weights that they replace."""
        return _FLOAT * (self.weights - 9 * self.inputs * self.outputs)

    @property
    def saved(self) -> float:
        """An estimate of the time that is saved, in operations of a convolution.

        The constants fit the times of 23 layers held to AVX2 (two cores of an AMD EPYC), from 64 channels at 256x256
        to 2,560 at 8x8; `tests/benchmarks/winograd.py` measures them.
        """
        pixels = self.batch * self.tiles * _TILE**2
        multiplied = self.batch * self.tiles * 2.0 * self.weights
        moved = pixels * (10 * self.inputs + 7.5 * self.outputs)
        rewritten = max(_SLOWER * multiplied, _WEIGHT * self.batch * self.weights) + _VALUE * moved
        return self.operations - _MARGIN * rewritten


def rewrite(model: openvino.Model, budget: float) -> int:
    """Rewrite the convolutions of a model with static shapes that become faster. Modifies `model`.

    Args:
        model: computes in f32.
        budget: the bytes of memory that may be used in addition. If it is not enough for all, the convolutions that
            save most for each byte come first.

    Returns:
        How many convolutions were rewritten.

    Example:
        >>> from openvino import opset13 as ops
        >>> image = ops.parameter([1, 256, 64, 64], np.float32)
        >>> weights = ops.constant(np.ones((256, 256, 3, 3), np.float32))
        >>> convolution = ops.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1])
        >>> rewrite(openvino.Model([convolution], [image]), budget=1e9)
        1
    """
    layers = [layer for node in model.get_ordered_ops() if (layer := _layer(node)) and layer.saved > 0]
    layers.sort(key=lambda layer: layer.saved / layer.extra_bytes, reverse=True)
    rewritten = 0
    for layer in layers:
        if layer.extra_bytes <= budget:
            budget -= layer.extra_bytes
            layer.node.output(0).replace(_subgraph(layer))
            rewritten += 1
    return rewritten


def weight_bytes(model: openvino.Model) -> int:
    """Return the memory of a model's weights in f32."""
    constants = (node for node in model.get_ops() if node.get_type_name() == "Constant")
    return sum(_FLOAT * int(np.prod(node.get_output_shape(0))) for node in constants)


def _layer(node: openvino.Node) -> _Layer | None:
    if node.get_type_name() != "Convolution" or any(port.get_partial_shape().is_dynamic for port in node.inputs()):
        return None
    given = node.get_attributes()
    same = all(list(given[name]) == [1, 1] for name in ("strides", "dilations", "pads_begin", "pads_end"))
    outputs, inputs, *kernel = node.input(1).get_shape()
    if not same or list(kernel) != [3, 3] or given["auto_pad"] not in ("explicit", "notset"):
        return None
    if not _is_constant(node.input_value(1).get_node()):  # has eight-bit activations, or is computed
        return None
    batch, _, height, width = node.input(0).get_shape()
    layer = _Layer(node, batch, inputs, outputs, height, width)
    return layer if layer.operations >= _WORTHWHILE else None


def _is_constant(node: openvino.Node) -> bool:
    """Whether a node is a constant, or one that is decompressed."""
    if node.get_type_name() == "Constant":
        return True
    decompressing = node.get_type_name() in ("Convert", "Multiply", "Subtract", "Reshape")
    return decompressing and all(_is_constant(value.get_node()) for value in node.input_values())


def _transformed(weights: openvino.Output, layer: _Layer) -> Matrix:
    """Return `G g G^T` for each pair of channels: (36, outputs, inputs)."""
    value = openvino.Tensor(openvino.Type.f32, weights.get_shape())
    openvino.Model([weights.get_node()], []).evaluate([value], [])
    kernels = value.data.reshape(-1, 9)
    transform = np.kron(_G, _G).astype(np.float32)
    transformed: Matrix = np.matmul(transform, kernels.T)
    return transformed.reshape(_INPUTS, layer.outputs, layer.inputs)


def _subgraph(layer: _Layer) -> openvino.Output:
    """Return the output that replaces that of a convolution."""
    ops = openvino.opset13
    batch, inputs, outputs = layer.batch, layer.inputs, layer.outputs
    rows, columns = -(-layer.height // _TILE), -(-layer.width // _TILE)

    def shaped(value: Any, *shape: int) -> Any:
        return ops.reshape(value, np.array(shape, np.int64), special_zero=False)

    source, weights = layer.node.input_value(0), layer.node.input_value(1)
    # One pixel before, and as many after as the last tile needs.
    after = [1 + _TILE * rows - layer.height, 1 + _TILE * columns - layer.width]
    padded = ops.pad(source, _integers(0, 0, 1, 1), _integers(0, 0, *after), "constant", np.float32(0))
    tiles = ops.extract_image_patches(padded, [6, 6], [_TILE, _TILE], [1, 1], "VALID")
    tiles = shaped(tiles, batch, _INPUTS, inputs * layer.tiles)
    transformed = ops.matmul(ops.constant(np.kron(_B, _B)), tiles, transpose_a=False, transpose_b=False)
    transformed = shaped(transformed, batch, _INPUTS, inputs, layer.tiles)
    # Shared, so that OpenVINO does not copy the largest weights.
    kernels = ops.constant(_transformed(weights, layer)[None], shared_memory=True)
    products = ops.matmul(kernels, transformed, transpose_a=False, transpose_b=False)
    products = shaped(products, batch, _INPUTS, outputs * layer.tiles)
    sums = ops.matmul(ops.constant(np.kron(_A, _A)), products, transpose_a=False, transpose_b=False)
    sums = shaped(sums, batch, _TILE, _TILE, outputs, rows, columns)
    image = shaped(ops.transpose(sums, _integers(0, 3, 4, 1, 5, 2)), batch, outputs, _TILE * rows, _TILE * columns)
    if (layer.height, layer.width) != (_TILE * rows, _TILE * columns):
        ends = _integers(layer.height, layer.width)
        image = ops.slice(image, _integers(0, 0), ends, _integers(1, 1), _integers(2, 3))
    image.set_friendly_name(layer.node.get_friendly_name())
    return image.output(0)


def _integers(*values: int) -> Any:
    return openvino.opset13.constant(np.array(values, np.int64))
