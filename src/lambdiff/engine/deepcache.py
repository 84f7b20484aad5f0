"""DeepCache: denoising steps that compute only a UNet's outermost layers and reuse the deep layers' output.

The output of the deep layers changes little from one denoising step to the next (Ma and others 2024, "DeepCache:
Accelerating diffusion models for free"). The cut is the paper's shallowest one, in front of the last skip connection: a
step that reuses features computes the first convolution, the last residual block with its attention, and the last
convolution. Both graphs are derived from the same `unet.xml` and weights file, so DeepCache needs no files of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from lambdiff.engine.without_telemetry import openvino

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

FEATURES: Final = "features"
"""The name of the whole UNet's second output, and of the outer layers' additional input."""

_SKIP: Final = re.compile(r"up_blocks\.(\d+)/aten::cat/Concat(?:_(\d+))?$")


def with_features(model: openvino.Model) -> openvino.Model:
    """Add the deep layers' features, of shape (batch, channels, height, width), as a second output. Modifies `model`.

    Raises:
        ValueError: the model has no skip connections with the names that `lambdiff bake` uses.
    """
    output = _last_skip(model).input_value(0)
    model.add_outputs([output])[0].get_tensor().set_names({FEATURES})
    return model


def outer(model: openvino.Model) -> openvino.Model:
    """Return the layers outside the cut as a model that takes the features as an additional input. Modifies `model`.

    Raises:
        ValueError: as `with_features`.
    """
    port = _last_skip(model).input(0)
    features = openvino.opset15.parameter(port.get_partial_shape(), port.get_element_type())
    features.output(0).get_tensor().set_names({FEATURES})
    port.replace_source_output(features.output(0))
    return openvino.Model(model.get_results(), [*model.get_parameters(), features], "unet_outer")


class CachedUNet:
    """One request's UNet: computed in full at every n-th call, and from cached features in between.

    Args:
        whole: runs the UNet; returns (output,) or, if made by `with_features`, (output, features).
        outer_layers: runs the model that `outer` returns; never called if `interval` is 1.
        interval: n.
    """

    def __init__(
        self,
        whole: Callable[[dict[str, Any]], tuple[NDArray[np.float32], ...]],
        outer_layers: Callable[[dict[str, Any]], tuple[NDArray[np.float32], ...]],
        interval: int,
    ) -> None:
        self._whole = whole
        self._outer_layers = outer_layers
        self._interval = interval
        self._features: NDArray[np.float32] | None = None

    def __call__(self, call: int, inputs: dict[str, Any]) -> NDArray[np.float32]:
        """Return the UNet's output for call number `call` of the request, counted from 0.

        A guided call (batch 2) cannot reuse the features of an unguided one (batch 1). An unguided call can reuse those
        of a guided one: the features of the conditional pass, which is the last sample.
        """
        batch = len(inputs["sample"])
        if call % self._interval == 0 or self._features is None or len(self._features) < batch:
            output, *features = self._whole(inputs)
            self._features = features[0] if features else None
        else:
            (output,) = self._outer_layers({**inputs, FEATURES: self._features[-batch:]})
        return output


def _last_skip(model: openvino.Model) -> openvino.Node:
    """Return the last concatenation of the last block, which adds the first convolution's output."""
    skips = {}
    for node in model.get_ops():
        if match := _SKIP.search(node.get_friendly_name()):
            skips[int(match[1]), int(match[2] or 0)] = node
    if not skips:
        raise ValueError("The UNet has no skip connections whose features could be reused.")
    return skips[max(skips)]
