"""Round the weights of a torch module as they are stored, to know what a right conversion returns."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn

WeightFormat = Literal["f32", "f16", "int8", "int8_matrices"]
"""How the weights of a part are stored.

`int8_matrices` keeps the kernels of convolutions in f16: OpenVINO would expand them, see `memory.py`. They are a small
part of large UNets, and a large part of small ones.
"""

_LARGEST_F16: Final = torch.finfo(torch.float16).max
_LEVELS: Final = 255
_MATRIX: Final = 2
_KERNEL: Final = 4
"""Dimensions."""
_FREQUENCIES: Final = "time_proj."
"""Parameters that are stored in f32, see `convert.py`."""


def round_weights(module: nn.Module, weights: WeightFormat) -> None:
    """Round a module's parameters in place.

    Args:
        module: the module.
        weights: `f32` changes nothing. With `int8`, matrices and kernels get 256 values for each output channel, and
            other parameters are rounded to f16; with `int8_matrices`, kernels are among the latter.
    """
    if weights == "f32":
        return
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if _FREQUENCIES not in name:
                largest = {"f16": 0, "int8": _KERNEL, "int8_matrices": _MATRIX}[weights]
                as_int8 = _MATRIX <= parameter.ndim <= largest
                parameter.copy_(_to_int8(parameter) if as_int8 else _to_f16(parameter))


def _to_f16(values: Tensor) -> Tensor:
    return values.clamp(-_LARGEST_F16, _LARGEST_F16).half().float()


def _to_int8(values: Tensor) -> Tensor:
    rows = values.flatten(1)
    low, high = rows.amin(1, keepdim=True).clamp(max=0), rows.amax(1, keepdim=True).clamp(min=0)
    step = ((high - low) / _LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    return (torch.round(rows / step) * step).reshape(values.shape)
