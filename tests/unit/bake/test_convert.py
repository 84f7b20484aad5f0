"""One module becomes one OpenVINO model, and only a right one (bake/convert.py, bake/rounding.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.embeddings import Timesteps
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lambdiff.bake.bake import bake
from lambdiff.bake.convert import convert_module
from lambdiff.bake.rounding import WeightFormat
from lambdiff.errors import ModelError

pytestmark = pytest.mark.engine


def convert(module: nn.Module, inputs: dict[str, Tensor], folder: Path, weights: WeightFormat = "f16") -> float:
    """Convert a module, and return the relative error that is reported."""
    messages: list[str] = []
    module.requires_grad_(False)
    convert_module(module, inputs, folder / "part.xml", weights, rewrites=(), progress=messages.append)
    return float(messages[-1].split()[-1])


class _Difference(nn.Module):  # type: ignore[misc]
    """The difference of two layers that are almost equal, in which the rounding of their weights counts for more."""

    def __init__(self, distance: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = (nn.Linear(64, 64, bias=False) for _ in range(2))
        with torch.no_grad():
            self.other.weight.copy_(self.one.weight + distance * torch.randn(64, 64))

    def forward(self, values: Tensor) -> Tensor:
        return self.one(values) - self.other(values)


def test_rounding_is_no_reason_for_a_refusal(tmp_path: Path) -> None:
    """Where rounding the weights to f16 changes the output by several percent, the conversion is right all the same."""
    inputs = {"values": torch.randn(2, 64)}
    assert convert(_Difference(0.1), inputs, tmp_path) < 1e-3
    assert convert(_Difference(5e-4), inputs, tmp_path) > 1e-2


@pytest.mark.parametrize(("weights", "distance"), [("f16", 3e-5), ("int8", 1e-3)])
def test_weights_that_need_a_higher_precision_are_refused_as_such(
    weights: WeightFormat, distance: float, tmp_path: Path
) -> None:
    """If the format changes the output by more than a tenth, the message says that it is the format."""
    with pytest.raises(ModelError, match=f"Storing the weights of part in {weights} changes its output by") as caught:
        convert(_Difference(distance), {"values": torch.randn(2, 64)}, tmp_path, weights)
    assert caught.value.fix == "Choose a higher `precision=`."


class _Traced(nn.Module):  # type: ignore[misc]
    """A linear layer that the tracer sees with another factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 64)
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        return self.layer(values) * (self.factor if torch.jit.is_tracing() else 1.0)


@pytest.mark.parametrize(("weights", "factor"), [("f32", 1.002), ("f16", 1.005), ("int8", 1.05)])
def test_a_wrong_conversion_is_refused(weights: WeightFormat, factor: float, tmp_path: Path) -> None:
    """An error that is not explained by the rounding of the weights is refused, also a small one."""
    inputs = {"values": torch.randn(2, 64)}
    assert convert(_Traced(1.0), inputs, tmp_path, weights) < 0.03
    with pytest.raises(ModelError, match="The converted part differs from the original"):
        convert(_Traced(factor), inputs, tmp_path, weights)


class _Embedding(nn.Module):  # type: ignore[misc]
    """The timestep embedding of diffusers' UNets."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = Timesteps(320, flip_sin_to_cos=True, downscale_freq_shift=0)

    def forward(self, timestep: Tensor) -> Tensor:
        return self.embed(timestep)


def test_timesteps_are_embedded_exactly(tmp_path: Path) -> None:
    """The frequencies of the embedding are not rounded to f16, which would shift the phase by a quarter."""
    assert convert(_Embedding(), {"timestep": torch.tensor([999.0])}, tmp_path) < 1e-4


def test_a_model_with_broken_numbers_is_refused(source: Path, tmp_path: Path) -> None:
    """NaN among the weights is the model's fault, and the message says so."""
    path = source / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    tensors[max(tensors)].fill_(float("nan"))
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match="text_encoder of the model returns values that are not numbers") as caught:
        bake(source, tmp_path / "out")
    assert "bug" not in caught.value.fix
    assert list(tmp_path.iterdir()) == [source]
