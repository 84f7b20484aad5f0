"""DeepCache: cutting a UNet into its outer layers and the rest, and when each runs."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset15

from lambdiff.engine import deepcache
from lambdiff.engine.deepcache import CachedUNet
from lambdiff.engine.runtime import Part, Runtime, Shape
from support import tiny_pipeline

pytestmark = pytest.mark.engine


def test_the_outer_layers_agree_with_the_whole_unet():
    """Given the features of the same call, the outer layers give what the whole UNet gives."""
    shapes = [Shape(2, 16, 16)]
    runtime = Runtime(tiny_pipeline.baked(precision="f32"), precision="f32", threads=1)
    runtime.load(
        [Part("unet", rewrite=deepcache.with_features), Part("unet_outer", "unet", rewrite=deepcache.outer)],
        {"unet": shapes, "unet_outer": shapes},
    )
    random = np.random.default_rng(0)
    inputs = {
        "sample": np.repeat(random.standard_normal((1, 4, 16, 16), np.float32), 2, axis=0),
        "timestep": np.array([300.0], np.float32),
        "encoder_hidden_states": random.standard_normal((2, 16, 32), np.float32),
    }
    output, features = runtime.serve("unet", shapes)(inputs)
    (again,) = runtime.serve("unet_outer", shapes)({**inputs, deepcache.FEATURES: features})
    np.testing.assert_allclose(again, output, atol=1e-5)


@pytest.mark.parametrize("cut", [deepcache.with_features, deepcache.outer])
def test_a_model_without_skip_connections_is_refused(cut):
    """DeepCache needs a UNet as `lambdiff bake` names its nodes."""
    parameter = opset15.parameter([1, 4], np.float32)
    with pytest.raises(ValueError, match="no skip connections"):
        cut(openvino.Model([opset15.relu(parameter)], [parameter], "relu"))


def cached_unet(interval):
    """A UNet whose features are the batch size, and a list of what it ran: (what, features)."""
    ran = []

    def whole(inputs):
        ran.append(("whole", None))
        return inputs["sample"], np.arange(len(inputs["sample"]), dtype=np.float32)

    def outer_layers(inputs):
        ran.append(("outer", inputs[deepcache.FEATURES].tolist()))
        return (inputs["sample"],)

    return CachedUNet(whole, outer_layers, interval), ran


def run(unet, batches):
    """Call the UNet once for each batch size."""
    for call, batch in enumerate(batches):
        unet(call, {"sample": np.zeros((batch, 4, 2, 2), np.float32)})


def test_every_nth_call_is_whole():
    """The calls in between reuse the features of the last whole one."""
    unet, ran = cached_unet(3)
    run(unet, [1] * 5)
    assert [what for what, _ in ran] == ["whole", "outer", "outer", "whole", "outer"]


def test_without_deepcache_every_call_is_whole():
    """An interval of 1 never runs the outer layers."""
    unet, ran = cached_unet(1)
    run(unet, [2, 1, 2])
    assert [what for what, _ in ran] == ["whole"] * 3


def test_a_guided_call_needs_features_of_a_guided_call():
    """Going from one sample to two runs the whole UNet; going back reuses the conditional sample's features."""
    unet, ran = cached_unet(10)
    run(unet, [1, 2, 2, 1])
    assert ran == [("whole", None), ("whole", None), ("outer", [0, 1]), ("outer", [1])]
