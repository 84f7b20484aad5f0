"""Steps that compute only the outermost layers of a UNet and keep the rest from an earlier step.

What the deep layers give changes little from one denoising step to the next (Ma and others 2024, "DeepCache:
accelerating diffusion models for free"). The cut is the paper's narrowest one: in front of the last skip connection,
so that a reusing step computes the first convolution, the last residual block with its attention, and the last
convolution. No file is needed for it: both graphs are made from the same `unet.xml`, and share its weights.
"""

from __future__ import annotations

import re
from typing import Final

import openvino
from openvino import opset15

FEATURES: Final = "features"
"""The name of the second output of the whole UNet, and of the additional input of the outer one."""

_SKIP: Final = re.compile(r"up_blocks\.(\d+)/aten::cat/Concat(?:_(\d+))?$")


def add_features(model: openvino.Model) -> None:
    """Give the deep layers' features as a second output, of shape (batch, channels, height, width).

    Raises:
        ValueError: the model has no skip connections as `lambdiff bake` names them.
    """
    output = _last_skip(model).input_value(0)
    model.add_outputs([output])[0].get_tensor().set_names({FEATURES})


def outer(model: openvino.Model) -> openvino.Model:
    """The layers outside the cut as a model of their own, which takes the features as an additional input.

    Raises:
        ValueError: as `add_features`.
    """
    port = _last_skip(model).input(0)
    features = opset15.parameter(port.get_partial_shape(), port.get_element_type())
    features.output(0).get_tensor().set_names({FEATURES})
    port.replace_source_output(features.output(0))
    return openvino.Model(model.get_results(), [*model.get_parameters(), features], "unet_outer")


def _last_skip(model: openvino.Model) -> openvino.Node:
    """The concatenation with the first convolution's output: the last block's last."""
    found = {}
    for node in model.get_ops():
        if match := _SKIP.search(node.get_friendly_name()):
            found[int(match[1]), int(match[2] or 0)] = node
    if not found:
        raise ValueError("The UNet has no skip connections whose features could be reused.")
    return found[max(found)]
