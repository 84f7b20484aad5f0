"""Which graph serves a call, and which graphs are in memory (engine/runtime.py)."""

from __future__ import annotations

import numpy as np
import openvino
import pytest

from lambdiff.engine.runtime import Graph, Part, Runtime, Shape
from support import tiny_pipeline

pytestmark = pytest.mark.engine

DEFAULT, GUIDED, WIDE = Shape(1, 4, 4), Shape(2, 4, 4), Shape(1, 4, 8)


@pytest.fixture
def folder(tmp_path):
    """A folder with one part, `half`, which halves its `latents`."""
    parameter = openvino.opset15.parameter([-1, 2, -1, -1], np.float32)
    parameter.output(0).get_tensor().set_names({"latents"})
    halves = np.full((1, 2, 1, 1), 0.5, np.float32)
    model = openvino.Model([openvino.opset15.multiply(parameter, halves)], [parameter], "half")
    openvino.save_model(model, tmp_path / "half.xml", compress_to_fp16=False)
    return tmp_path


def loaded(folder, static=(), shapes=(DEFAULT,), **options):
    """Return a loaded runtime in which each shape in `static` has a separate graph."""
    runtime = Runtime(folder, precision="f32", threads=1, **options)
    runtime.load([Part("half")], {"half": shapes}, is_static=lambda part, shape: shape in static)
    return runtime


def run(runtime, *shapes):
    """Run one request that calls the part with these shapes, and check its outputs."""
    half = runtime.serve("half", shapes)
    for shape in shapes:
        latents = np.ones((shape.batch, 2, shape.height, shape.width), np.float32)
        (output,) = half({"latents": latents})
        assert np.array_equal(output, latents / 2)


def test_dynamic_shapes_need_one_graph(folder):
    """Without static shapes, one graph serves every batch and size."""
    runtime = loaded(folder)
    assert runtime.graphs == [Graph("half")]
    run(runtime, DEFAULT, GUIDED, WIDE)
    assert runtime.graphs == [Graph("half")]


def test_static_shapes_are_compiled_at_load(folder):
    """Each expected static shape gets a graph when the model is loaded, and its requests compile nothing."""
    runtime = loaded(folder, static=(DEFAULT, GUIDED), shapes=(GUIDED, DEFAULT))
    expected = [Graph("half", GUIDED), Graph("half", DEFAULT)]
    assert runtime.graphs == expected
    run(runtime, GUIDED, DEFAULT)
    assert runtime.graphs == expected


def test_a_request_with_another_shape_is_served_by_the_dynamic_graph(folder):
    """The dynamic graph replaces the static one, which comes back with the next request of its shape."""
    runtime = loaded(folder, static=(DEFAULT,))
    run(runtime, WIDE)
    assert runtime.graphs == [Graph("half")]
    run(runtime, DEFAULT)
    assert runtime.graphs == [Graph("half", DEFAULT)]


def test_one_dynamic_shape_makes_the_whole_request_dynamic(folder):
    """If one shape of a request needs the dynamic graph, that graph serves all calls of the request."""
    runtime = loaded(folder, static=(DEFAULT,))
    half = runtime.serve("half", [DEFAULT, GUIDED])
    half({"latents": np.ones((1, 2, 4, 4), np.float32)})
    assert runtime.graphs == [Graph("half")]


def test_static_graphs_do_not_evict_each_other(folder):
    """A request of one static shape keeps the graphs of the others in memory."""
    runtime = loaded(folder, static=(DEFAULT, GUIDED))
    run(runtime, GUIDED)
    assert runtime.graphs == [Graph("half", DEFAULT), Graph("half", GUIDED)]


def test_the_observer_sees_every_inference(folder):
    """The observer is called with the part's name and the inputs of each inference."""
    seen = []
    runtime = loaded(folder, observe=lambda part, inputs: seen.append((part, inputs["latents"].shape)))
    run(runtime, WIDE, GUIDED)
    assert seen == [("half", (1, 2, 4, 8)), ("half", (2, 2, 4, 4))]


def test_outputs_belong_to_the_caller(folder):
    """A later call does not overwrite the output of an earlier one."""
    half = loaded(folder).serve("half", [DEFAULT])
    first, second = (half({"latents": np.full((1, 2, 4, 4), value, np.float32)})[0] for value in (2, 4))
    assert (first == 1).all()
    assert (second == 2).all()


def test_parts_may_share_files_and_be_rewritten(folder):
    """Two parts may share a file, and a rewrite changes only the graph of its own part."""

    def negate(model):
        output = model.outputs[0].get_node().input_value(0)
        return openvino.Model([openvino.opset15.negative(output)], model.get_parameters(), "negated")

    runtime = Runtime(folder, precision="f32", threads=1)
    runtime.load([Part("half"), Part("negated", "half", rewrite=negate)], {"half": [DEFAULT], "negated": [DEFAULT]})
    latents = np.ones((1, 2, 4, 4), np.float32)
    outputs = [runtime.serve(part, [DEFAULT])({"latents": latents})[0] for part in ("half", "negated")]
    assert np.array_equal(outputs[0], latents / 2)
    assert np.array_equal(outputs[1], -latents / 2)


def test_the_shape_of_a_call_is_that_of_its_latents():
    """The shape of a call is batch, height and width of its latents; without latents it is a batch only."""
    sample, embedding = np.zeros((2, 4, 6, 8)), np.zeros((2, 77, 768))
    assert Shape.of({"encoder_hidden_states": embedding, "sample": sample}) == (2, 6, 8, 77)
    assert Shape.of({"input_ids": np.zeros((1, 77))}) == (1, 0, 0, 0)


def test_dynamic_dimensions_are_filled_in():
    """Latents get batch, height and width, other inputs get the batch, and fixed dimensions are kept."""
    shape = Shape(2, 6, 8, 154)
    assert shape.fill(openvino.PartialShape([-1, 4, -1, -1])) == [2, 4, 6, 8]
    assert shape.fill(openvino.PartialShape([-1, 77, 768])) == [2, 77, 768]
    assert shape.fill(openvino.PartialShape([-1, -1, 768])) == [2, 154, 768]
    assert shape.fill(openvino.PartialShape([1])) == [1]


@pytest.mark.parametrize("missing", ["half.bin", "half.xml"])
def test_a_missing_file_fails_at_load(folder, missing):
    """A missing file raises an error at load rather than at the first request."""
    (folder / missing).unlink()
    with pytest.raises(OSError, match=missing):
        loaded(folder)


def test_buffers_are_released_by_part(folder, monkeypatch):
    """Only the named parts release their buffers, and they can run again afterwards."""
    released = []

    def release_memory(compiled):
        released.append(compiled)

    monkeypatch.setattr(openvino.CompiledModel, "release_memory", release_memory)
    runtime = loaded(folder)
    runtime.release_buffers("decoder")
    assert released == []
    runtime.release_buffers("half", "decoder")
    assert len(released) == 1
    run(runtime, DEFAULT)


def test_a_baked_part_runs():
    """The decoder of a baked model can be loaded and run."""
    shapes = [Shape(1, 16, 16)]
    runtime = Runtime(tiny_pipeline.baked(precision="f32"), precision="f32", threads=1)
    runtime.load([Part("decoder")], {"decoder": shapes}, is_static=lambda part, shape: True)
    (image,) = runtime.serve("decoder", shapes)({"latents": np.zeros((1, 4, 16, 16), np.float32)})
    assert image.shape == (1, 3, 64, 64)


class Kept:
    """A cache that has nothing, and notes which graphs it is offered."""

    def __init__(self):
        self.offered = []

    def restore(self, source):
        return None

    def offer(self, source, compiled):
        self.offered.append(source.shape)


@pytest.mark.parametrize(
    ("static", "winograd_memory", "precision"), [(True, 3.0, "f32-winograd-1"), (True, 2.5, "f32"), (False, 3.0, "f32")]
)
def test_convolutions_are_rewritten_as_far_as_there_is_memory(tmp_path, static, winograd_memory, precision):
    """Static graphs are rewritten within their memory, the precision says so, and they are not kept in a cache."""
    latents = openvino.opset15.parameter([-1, 256, -1, -1], np.float32)
    latents.output(0).get_tensor().set_names({"latents"})
    kernel = np.random.default_rng(7).standard_normal((256, 256, 3, 3)).astype(np.float32) / 48
    model = openvino.Model([openvino.opset15.convolution(latents, kernel, *[[1, 1]] * 4)], [latents])
    openvino.save_model(model, tmp_path / "conv.xml", compress_to_fp16=False)
    shape, cache = Shape(1, 32, 32), Kept()
    options = {"precision": "f32", "threads": 1}
    plain, runtime = (
        Runtime(tmp_path, **options),
        Runtime(tmp_path, **options, winograd_memory=winograd_memory, cache=cache),
    )
    for each in (plain, runtime):
        each.load([Part("conv")], {"conv": [shape]}, is_static=lambda *_: static)
    assert (plain.precision, runtime.precision) == ("f32", precision)
    assert cache.offered == ([] if "winograd" in precision else [shape if static else None])
    image = np.random.default_rng(8).standard_normal((1, 256, 32, 32)).astype(np.float32)
    direct, output = (each.serve("conv", [shape])({"latents": image})[0] for each in (plain, runtime))
    assert np.abs(direct - output).max() < 1e-4 * np.abs(direct).max()
    assert np.array_equal(direct, output) == ("winograd" not in precision)
