"""One torch module to one OpenVINO model on disk, compared with the original."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import nncf
import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset15
from torch import Tensor, nn

from lambdiff.bake import comparison, modules
from lambdiff.bake.parameters import Progress
from lambdiff.engine.core import core

Rewrite = Callable[[nn.Module], None]
"""Replaces parts of a module with equivalent ones, in place."""
WeightFormat = Literal["f32", "f16", "int8"]

BOUNDS: Final[dict[WeightFormat, float]] = {"f32": 1e-3, "f16": 1e-2, "int8": 1e-1}
"""The largest relative error of a converted module, by the format of its weights. With f32 only the order of additions
differs; with the other formats, weights are rounded."""
_REWRITE_BOUND: Final = 1e-4


def convert_module(
    module: nn.Module,
    inputs: dict[str, Tensor],
    path: Path,
    weights: WeightFormat,
    *,
    rewrites: Sequence[Rewrite],
    progress: Progress,
) -> None:
    """Rewrite, trace and store a module; then compare the stored model with the original.

    Args:
        module: the original, which is rewritten in place.
        inputs: example inputs by name, in the order of the module's `forward`.
        path: the `.xml` file to write; the weights go to the `.bin` file next to it.
        weights: how the weights are stored.
        rewrites: applied before the module is traced.
        progress: called before each step.

    Raises:
        ModelError: the rewritten or the stored model differs from the original by more than its bound.
    """
    part = path.stem
    progress(f"converting {part}")
    other_inputs = comparison.resize_inputs(inputs)
    expected = _outputs(module.eval(), other_inputs)
    if rewrites:
        for rewrite in rewrites:
            rewrite(module)
        comparison.check_close(
            f"The rewritten {part}",
            _outputs(module, other_inputs),
            expected,
            bound=_REWRITE_BOUND,
            fix="Report this model as a bug.",
        )
    _save(_to_openvino(module, inputs), path, weights)
    progress(f"comparing {part}")
    error = comparison.check_close(
        f"The converted {part}",
        _run(path, other_inputs),
        expected,
        bound=BOUNDS[weights],
        fix="Choose a higher `precision=`, or report this model as a bug.",
    )
    progress(f"{part}: relative error {error:.1e}")


def _outputs(module: nn.Module, inputs: dict[str, Tensor]) -> list[NDArray[np.float32]]:
    output = module(*inputs.values())
    return [value.numpy() for value in ((output,) if isinstance(output, Tensor) else output)]


def _to_openvino(module: nn.Module, inputs: dict[str, Tensor]) -> openvino.Model:
    """Convert a module to an OpenVINO model with named inputs of dynamic batch and size."""
    model = openvino.convert_model(modules.trace(module, inputs), example_input=tuple(inputs.values()))
    for port, name in zip(model.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
    model.reshape({name: _dynamic_shape(name, value) for name, value in inputs.items()})
    _split_modulated_norms(model)
    return model


def _dynamic_shape(name: str, value: Tensor) -> list[int]:
    """Return an input's shape with -1 for the batch, the size of the latents, and the length of embedded prompts."""
    if name == "timestep":
        return [1]
    if name == "encoder_hidden_states":
        return [-1, -1, *value.shape[2:]]
    if value.ndim == 4:
        return [-1, value.shape[1], -1, -1]
    return [-1, *value.shape[1:]]


def _save(model: openvino.Model, path: Path, weights: WeightFormat) -> None:
    if weights == "int8":
        with contextlib.redirect_stdout(sys.stderr):
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    openvino.save_model(model, path, compress_to_fp16=weights != "f32")


def _run(path: Path, inputs: dict[str, Tensor]) -> list[NDArray[np.float32]]:
    """Run a stored model in f32 arithmetic, so that only its conversion and its weights can differ."""
    compiled = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(compiled({name: value.numpy() for name, value in inputs.items()}).to_tuple())


def _split_modulated_norms(model: openvino.Model) -> None:
    """Replace group norms that the timestep scales and shifts (`resnet_time_scale_shift`) with primitive operations.

    OpenVINO 2026.4 fuses the norm with the modulation, and then crashes when it compiles the UNet with static shapes in
    f32.
    """
    for node in model.get_ops():
        if node.get_type_name() != "GroupNormalization":
            continue
        consumers = {port.get_node() for port in node.output(0).get_target_inputs()}
        if not any(consumer.get_type_name() == "Multiply" for consumer in consumers):
            continue
        hidden, scale, shift = node.input_values()
        attributes = node.get_attributes()
        groups = opset15.constant(np.array([0, attributes["num_groups"], -1]))
        normalized = opset15.mvn(
            opset15.reshape(hidden, groups, special_zero=True),
            opset15.constant(np.array([2])),
            normalize_variance=True,
            eps=attributes["epsilon"],
            eps_mode="inside_sqrt",
        )
        normalized = opset15.reshape(normalized, opset15.shape_of(hidden), special_zero=False)
        channels = opset15.constant(np.array([1, -1, 1, 1]))
        scale, shift = (opset15.reshape(value, channels, special_zero=False) for value in (scale, shift))
        replacement = opset15.add(opset15.multiply(normalized, scale), shift)
        replacement.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(replacement.output(0))
