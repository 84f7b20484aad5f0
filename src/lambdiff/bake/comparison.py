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
    errors = [float(np.linalg.norm(a - e) / np.linalg.norm(e)) for a, e in zip(actual, expected, strict=True)]
    for error in errors:
        if not error <= bound:
            raise ModelError(f"{what} differs from the original by {error:.1e} (allowed: {bound:.0e}).", fix=fix)
    return max(errors)
