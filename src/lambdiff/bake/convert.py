"""One torch module to one OpenVINO model on disk, compared with the original."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import nncf
import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset15
from openvino._offline_transformations import compress_model_transformation
from torch import Tensor, nn

from lambdiff.bake import comparison, modules, output_folder, rounding
from lambdiff.bake.parameters import Progress
from lambdiff.bake.rounding import WeightFormat
from lambdiff.engine.base import first_line
from lambdiff.engine.core import core
from lambdiff.errors import ModelError

Rewrite = Callable[[nn.Module], None]
"""Replaces parts of a module with equivalent ones, in place."""


class _Tolerance(NamedTuple):
    """How far a right conversion may be from the original with rounded weights, as a relative error.

    Attributes:
        constant: for additions in another order, and for constants that are rounded but are not weights.
        share: of the error that rounding the weights causes: NNCF rounds to eight bits in another way, and OpenVINO
            then also rounds activations.
    """

    constant: float
    share: float


_TOLERANCES: Final[dict[WeightFormat, _Tolerance]] = {
    "f32": _Tolerance(1e-3, 0.0),
    "f16": _Tolerance(2e-3, 0.5),
    "int8": _Tolerance(2e-3, 3.0),
    "int8_matrices": _Tolerance(2e-3, 3.0),
}
_STORAGE_BOUND: Final = 0.1
"""The largest relative error by which the format of the weights may change a part's output."""
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
        ModelError: the module returns values that are not numbers, the rewritten or the stored model differs from it,
            or the format of the weights changes its output too much.
    """
    part = path.stem
    progress(f"converting {part}")
    other_inputs = comparison.resize_inputs(inputs)
    expected = _run_original(module.eval(), other_inputs, part)
    comparison.check_numbers(part, expected)
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
    rounding.round_weights(module, weights)
    error = _check_stored(part, weights, _run(path, other_inputs), _outputs(module, other_inputs), expected)
    progress(f"{part}: relative error {error:.1e}")


def _run_original(module: nn.Module, inputs: dict[str, Tensor], part: str) -> list[NDArray[np.float32]]:
    try:
        return _outputs(module, inputs)
    except Exception as error:  # a module may raise anything if it does not fit its inputs
        raise ModelError(
            f"The {part} of the model cannot be run: {type(error).__name__}: {first_line(error)}",
            fix="Bake another model.",
        ) from error


def _check_stored(
    part: str,
    weights: WeightFormat,
    actual: list[NDArray[np.float32]],
    rounded: list[NDArray[np.float32]],
    expected: list[NDArray[np.float32]],
) -> float:
    """Check the outputs of a stored model, and return its relative error.

    Args:
        part: its name.
        weights: how its weights are stored.
        actual: its outputs.
        rounded: those of the original with rounded weights.
        expected: those of the original.

    Raises:
        ModelError: it is not converted rightly, or the rounding of its weights changes too much.
    """
    tolerance = _TOLERANCES[weights]
    rounding_error = comparison.relative_error(rounded, expected)
    _check_storage(part, weights, rounding_error)
    comparison.check_close(
        f"The converted {part}",
        actual,
        rounded,
        bound=tolerance.constant + tolerance.share * rounding_error,
        fix="Report this model as a bug.",
    )
    error = comparison.relative_error(actual, expected)
    _check_storage(part, weights, error)
    return error


def _check_storage(part: str, weights: WeightFormat, error: float) -> None:
    if not error <= _STORAGE_BOUND:
        raise ModelError(
            f"Storing the weights of {part} in {weights} changes its output by {error:.0%} (allowed: "
            f"{_STORAGE_BOUND:.0%}).",
            fix="Choose a higher `precision=`.",
        )


def _outputs(module: nn.Module, inputs: dict[str, Tensor]) -> list[NDArray[np.float32]]:
    output = module(*inputs.values())
    return [value.numpy() for value in ((output,) if isinstance(output, Tensor) else output)]


def _to_openvino(module: nn.Module, inputs: dict[str, Tensor]) -> openvino.Model:
    """Convert a module to an OpenVINO model with named inputs of dynamic batch and size."""
    try:
        model = openvino.convert_model(modules.trace(module, inputs), example_input=tuple(inputs.values()))
    except Exception as error:  # torch's tracer and OpenVINO raise no narrower class
        raise ModelError(
            f"OpenVINO cannot convert this model: {first_line(error)}", fix='Pass `engine="diffusers"`.'
        ) from error
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
    if weights != "f32":
        _keep_frequencies(model)
    if weights.startswith("int8"):
        kept = nncf.IgnoredScope(types=["Convolution"] if weights == "int8_matrices" else [])
        if weights == "int8_matrices":
            # `save_model` leaves everything else in f32 once there are eight-bit weights.
            compress_model_transformation(model)
        with contextlib.redirect_stdout(sys.stderr):
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM, ignored_scope=kept)
    with output_folder.library_writes(path.stem):
        openvino.save_model(model, path, compress_to_fp16=weights != "f32")


def _run(path: Path, inputs: dict[str, Tensor]) -> list[NDArray[np.float32]]:
    """Run a stored model in f32 arithmetic, so that only its conversion and its weights can differ."""
    compiled = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(compiled({name: value.numpy() for name, value in inputs.items()}).to_tuple())


def _keep_frequencies(model: openvino.Model) -> None:
    """Keep the frequencies with which timesteps are embedded, although all constants are stored in f16.

    Multiplied with a timestep of 999, the rounding error of a frequency would become a phase of up to a quarter. Each
    is replaced by the sum of its f16 value and the remainder, which OpenVINO adds up in f32 when it compiles the model.
    """
    waves = [node for node in model.get_ops() if node.get_type_name() in ("Sin", "Cos")]
    inputs = [value.get_node() for node in waves for value in node.input_values()]
    while inputs:
        node = inputs.pop()
        if node.get_type_name() in ("Multiply", "Unsqueeze", "Reshape"):
            inputs += [value.get_node() for value in node.input_values()]
        if node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.f32:
            values = node.get_data()
            rounded = values.astype(np.float16).astype(np.float32)
            exact = opset15.add(opset15.constant(rounded), opset15.constant(values - rounded))
            node.output(0).replace(exact.output(0))


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
