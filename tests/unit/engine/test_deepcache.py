"""DeepCache: splitting a UNet into its outer layers and the rest, and when each runs (engine/deepcache.py)."""

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
    """Given the features of the same call, the outer layers compute the output of the whole UNet."""
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
    (outer_output,) = runtime.serve("unet_outer", shapes)({**inputs, deepcache.FEATURES: features})
    np.testing.assert_allclose(outer_output, output, atol=1e-5)


@pytest.mark.parametrize("rewrite", [deepcache.with_features, deepcache.outer])
def test_a_model_without_skip_connections_is_refused(rewrite):
    """A model without the skip connections of a baked UNet is refused."""
    parameter = opset15.parameter([1, 4], np.float32)
    with pytest.raises(ValueError, match="no skip connections"):
        rewrite(openvino.Model([opset15.relu(parameter)], [parameter], "relu"))


def cached_unet(interval):
    """Return a UNet whose features number its samples, and a list of its calls: (part, features)."""
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


def test_every_nth_call_runs_the_whole_unet():
    """The whole UNet runs at every third call, and the calls in between run the outer layers."""
    unet, ran = cached_unet(3)
    run(unet, [1] * 5)
    assert [part for part, _ in ran] == ["whole", "outer", "outer", "whole", "outer"]


def test_without_deepcache_every_call_runs_the_whole_unet():
    """With an interval of 1, the outer layers never run on their own."""
    unet, ran = cached_unet(1)
    run(unet, [2, 1, 2])
    assert [part for part, _ in ran] == ["whole"] * 3


def test_a_guided_call_needs_features_of_a_guided_call():
    """A change from one sample to two runs the whole UNet; the change back reuses the conditional sample's features."""
    unet, ran = cached_unet(10)
    run(unet, [1, 2, 2, 1])
    assert ran == [("whole", None), ("whole", None), ("outer", [0, 1]), ("outer", [1])]
