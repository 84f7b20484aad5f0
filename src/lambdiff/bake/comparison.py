"""Compare a converted module with the original, on inputs of a different size than it was traced with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lambdiff.errors import ModelError


def resize_inputs(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same data with one more sample, and with latents of twice the height, transposed.

    If a converted module is right for these, tracing has not frozen the shapes of its example inputs.
    """
    return {name: _resize(value) for name, value in inputs.items()}


def _resize(value: Tensor) -> Tensor:
    if value.ndim == 1:  # one timestep for the whole batch
        return value
    batch = torch.cat([value, value[:1]])
    return torch.cat([batch, batch], dim=2).transpose(2, 3).contiguous() if value.ndim == 4 else batch


def check_close(
    what: str,
    actual: Sequence[NDArray[np.float32]],
    expected: Sequence[NDArray[np.float32]],
    *,
    bound: float,
    fix: str,
) -> float:
    """Return the largest relative error (Frobenius norm) of a module's outputs.

    Raises:
        ModelError: an error is larger than `bound`, or not a number.
    """
    error = relative_error(actual, expected)
    if not error <= bound:
        raise ModelError(f"{what} differs from the original by {error:.1e} (allowed: {bound:.0e}).", fix=fix)
    return error


def relative_error(actual: Sequence[NDArray[np.float32]], expected: Sequence[NDArray[np.float32]]) -> float:
    """Return the largest relative error (Frobenius norm) of a module's outputs; NaN if one is not a number."""
    pairs = zip(actual, expected, strict=True)
    return float(np.max([np.linalg.norm(one - other) / np.linalg.norm(other) for one, other in pairs]))


def check_numbers(part: str, outputs: Sequence[NDArray[np.float32]]) -> None:
    """Check that a module returns numbers.

    Raises:
        ModelError: an output has an infinity or NaN.
    """
    if not all(np.isfinite(output).all() for output in outputs):
        raise ModelError(
            f"The {part} of the model returns values that are not numbers: its weights are damaged.",
            fix="Download or save the model again, or bake another one.",
        )
