"""The OpenVINO engine: loading, precision, inferences, memory and warming up (engine/openvino.py)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import msgspec
import numpy as np
import openvino
import pytest

from lambdiff.engine import cpu
from lambdiff.engine import manifest as manifests
from lambdiff.engine.core import core
from lambdiff.engine.manifest import Approximations, Memory
from lambdiff.engine.mapped_weights import MappedWeights
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.engine.runtime import Runtime
from lambdiff.errors import ModelError
from lambdiff.handler.app import App
from lambdiff.protocol.contract import GenerateRequest
from support import tiny_pipeline
from support.observed_calls import ObservedCalls
from support.smaps import mapped

pytestmark = pytest.mark.engine


@pytest.fixture
def folder():
    """A baked model folder."""
    return tiny_pipeline.baked(precision="f32")


@pytest.fixture
def manifest(folder):
    """The manifest of `folder`."""
    return manifests.read(folder)


@pytest.fixture
def calls():
    """Records the inferences of the engines that it is passed to."""
    return ObservedCalls()


def request(manifest, **fields):
    """Return a request with the model's defaults and three steps."""
    fields = {"prompt": "a cat", "seed": 1, "num_inference_steps": 3} | fields
    return GenerateRequest(**fields).resolve(manifest.defaults)


def with_approximations(manifest, **approximations):
    """Return the manifest with some approximations."""
    return msgspec.structs.replace(manifest, approximations=Approximations(**approximations))


def count_compilations(monkeypatch):
    """Return a list that grows by one with each compilation."""
    compile_model, compilations = openvino.Core.compile_model, []
    monkeypatch.setattr(openvino.Core, "compile_model", lambda *args: compilations.append(1) or compile_model(*args))
    return compilations


def test_a_folder_without_a_part_is_a_model_error(folder, manifest, tmp_path):
    """If a model file is missing, loading raises a `ModelError` rather than OpenVINO's exception."""
    with pytest.raises(ModelError, match="cannot be loaded"):
        OpenVinoEngine(tmp_path, manifest).load()


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "f32")])
def test_the_precision_depends_on_the_processor(folder, manifest, monkeypatch, has_bf16, precision):
    """The engine computes in bf16 if the processor supports it and OpenVINO lists it, and otherwise in f32."""
    if has_bf16 and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precision = "f32"
    monkeypatch.setattr(cpu, "has_bf16", lambda: has_bf16)
    engine = OpenVinoEngine(folder, manifest)
    engine.load()
    assert engine.precision == precision


@pytest.mark.parametrize(("inference_precision", "precision"), [("f32", "f32"), ("auto", "bf16")])
def test_the_manifest_can_require_f32(folder, manifest, monkeypatch, inference_precision, precision):
    """A manifest that requires f32 gets it even on a processor with bf16."""
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "BF16"])
    monkeypatch.setattr(cpu, "has_bf16", lambda: True)
    monkeypatch.setattr(Runtime, "load", lambda *_, **__: None)
    engine = OpenVinoEngine(folder, msgspec.structs.replace(manifest, inference_precision=inference_precision))
    engine.load()
    assert engine.precision == precision


@pytest.mark.parametrize(
    ("memory_mb", "changes", "extra"),
    [
        (10_240, {}, 1.5),
        (4_000, {}, 0.75),
        (2_500, {}, 0.0),
        (2_000, {}, 0.0),
        (10_240, {"winograd": False}, 0.0),
        (10_240, {"memory": None}, 0.0),
    ],
)
def test_memory_that_the_model_does_not_need_makes_convolutions_faster(
    folder, manifest, monkeypatch, memory_mb, changes, extra
):
    """What is left of the memory, after the model's own and a quarter of it, may be used for convolutions in f32."""
    given, original = {}, Runtime.__init__

    def init(runtime, *arguments, **settings):
        given.update(settings)
        original(runtime, *arguments, **settings)

    monkeypatch.setattr(Runtime, "__init__", init)
    monkeypatch.setattr(Runtime, "load", lambda *_, **__: None)
    manifest = msgspec.structs.replace(manifest, **{"memory": Memory(bf16_mb=1_000, f32_mb=2_000), **changes})
    OpenVinoEngine(folder, manifest, memory_bytes=memory_mb * 2**20).load()
    assert given["winograd_memory"] == extra


def test_concurrent_loads_compile_once(folder, manifest, monkeypatch):
    """Threads that load at the same time wait for a single load of the three parts."""
    compilations = count_compilations(monkeypatch)
    engine = OpenVinoEngine(folder, manifest)
    threads = [threading.Thread(target=engine.load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.loaded
    assert len(compilations) == 3


def test_a_request_runs_the_expected_inferences(folder, manifest, calls):
    """A guided step is one call with two samples, an unguided one has one; known prompts are not encoded again."""
    engine = OpenVinoEngine(folder, manifest, observe=calls.record)
    engine.generate(request(manifest, guidance_scale=4.0, scheduler="euler"))
    assert calls == [("text_encoder", 1)] * 2 + [("unet", 2)] * 3 + [("decoder", 1)]
    calls.clear()
    engine.generate(request(manifest, guidance_scale=1.0, scheduler="euler"))
    assert calls == [("unet", 1)] * 3 + [("decoder", 1)]


@pytest.mark.parametrize("native_size", [None, (64, 64)], ids=["any-size", "native-size"])
def test_the_guidance_interval_limits_unconditional_passes(folder, manifest, calls, native_size):
    """Calls outside the interval have one sample, and an interval that covers all steps changes no pixel."""
    manifest = msgspec.structs.replace(manifest, native_size=native_size)
    guided = request(manifest, guidance_scale=4.0, scheduler="euler", num_inference_steps=4, width=64, height=64)
    exact = OpenVinoEngine(folder, manifest, precision="f32").generate(guided).pixels
    for interval, batches in (((0.0, 1.0), [2, 2, 2, 2]), ((0.0, 0.5), [2, 2, 1, 1]), ((0.25, 0.75), [1, 2, 2, 1])):
        calls.clear()
        limited = with_approximations(manifest, guidance_interval=interval)
        pixels = OpenVinoEngine(folder, limited, precision="f32", observe=calls.record).generate(guided).pixels
        assert [batch for part, batch in calls if part == "unet"] == batches
        assert (pixels == exact).all() == (interval == (0.0, 1.0))


def test_an_interval_without_a_step_gives_a_warning(folder, manifest):
    """A guided request has a warning if none of its steps is inside the interval; an unguided one has none."""
    engine = OpenVinoEngine(folder, with_approximations(manifest, guidance_interval=(0.3, 0.45)), precision="f32")
    assert engine.generate(request(manifest, guidance_scale=4.0, num_inference_steps=4)).warnings == [
        "With 4 steps, this model's guidance interval contains none of them; request more steps."
    ]
    assert engine.generate(request(manifest, guidance_scale=1.0, num_inference_steps=4)).warnings == []
    assert engine.generate(request(manifest, guidance_scale=4.0, num_inference_steps=8)).warnings == []


@pytest.mark.parametrize("native_size", [None, (64, 64)], ids=["any-size", "native-size"])
def test_deepcache_runs_the_outer_layers_between_whole_calls(folder, manifest, calls, native_size):
    """Between whole calls only the outer layers run; a guided call never reuses an unguided call's features."""
    manifest = msgspec.structs.replace(manifest, native_size=native_size)
    guided = request(manifest, guidance_scale=4.0, scheduler="ddim", num_inference_steps=5, width=64, height=64)
    exact = OpenVinoEngine(folder, manifest, precision="f32").generate(guided).pixels
    engine = OpenVinoEngine(
        folder, with_approximations(manifest, deepcache_interval=3), precision="f32", observe=calls.record
    )
    pixels = engine.generate(guided).pixels
    assert calls[2:-1] == [("unet", 2), ("unet_outer", 2), ("unet_outer", 2), ("unet", 2), ("unet_outer", 2)]
    assert (pixels != exact).any()
    calls.clear()
    both = with_approximations(manifest, deepcache_interval=3, guidance_interval=(0.2, 0.6))
    OpenVinoEngine(folder, both, precision="f32", observe=calls.record).generate(guided)
    assert calls[2:-1] == [("unet", 1), ("unet", 2), ("unet_outer", 2), ("unet", 1), ("unet_outer", 1)]


def test_static_shapes_give_the_same_image(folder, manifest):
    """Static and dynamic graphs give the same image up to rounding, at the default size and at another."""
    static = OpenVinoEngine(folder, msgspec.structs.replace(manifest, static_shapes=True), precision="f32")
    dynamic = OpenVinoEngine(folder, manifest, precision="f32")
    for width, height in ((64, 64), (96, 64)):
        sized = request(manifest, width=width, height=height)
        difference = static.generate(sized).pixels.astype(int) - dynamic.generate(sized).pixels
        assert np.abs(difference).max() <= 2


OTHER_SHAPES = pytest.mark.parametrize("other", [{"width": 96}, {"guidance_scale": 1.0}], ids=["size", "batch"])


@OTHER_SHAPES
def test_weights_are_in_memory_once(folder, manifest, other):
    """A dynamic graph replaces the static ones when a request needs it, and vice versa."""
    engine = OpenVinoEngine(folder, msgspec.structs.replace(manifest, static_shapes=True), precision="f32")

    def unet_shapes():
        runtime, _ = engine._loaded
        return [graph.shape for graph in runtime.graphs if graph.part == "unet"]

    for fields, shape in (({}, (2, 16, 16, 16)), (other, None), (other, None), ({}, (2, 16, 16, 16))):
        engine.generate(request(manifest, **fields))
        assert unet_shapes() == [shape]


@OTHER_SHAPES
@pytest.mark.parametrize("precision", ["f32", pytest.param("bf16", marks=pytest.mark.bf16)])
@pytest.mark.parametrize("static_shapes", [True, False], ids=["static", "dynamic"])
def test_pixels_do_not_depend_on_earlier_requests(folder, manifest, monkeypatch, static_shapes, precision, other):
    """A request gives the same pixels whatever shapes the engine has served before."""
    monkeypatch.setattr(cpu, "threads", lambda: 1)  # OpenVINO's bf16 sums may depend on the order of its threads
    manifest = msgspec.structs.replace(manifest, static_shapes=static_shapes)
    requests = [request(manifest), request(manifest, **other)]
    expected = [OpenVinoEngine(folder, manifest, precision=precision).generate(each).pixels for each in requests]
    used = OpenVinoEngine(folder, manifest, precision=precision)
    for index in (0, 1, 0, 1, 1, 0):
        assert np.array_equal(used.generate(requests[index]).pixels, expected[index])


@pytest.mark.parametrize(("tiny_decoder", "releases"), [(False, 3), (True, 0)], ids=["full", "tiny"])
def test_buffers_are_released_around_a_full_decoder(folder, manifest, monkeypatch, tiny_decoder, releases):
    """Text encoder and UNet release their buffers before a full decoder runs, and it releases its own afterwards."""
    release_memory, released = openvino.CompiledModel.release_memory, []
    monkeypatch.setattr(
        openvino.CompiledModel, "release_memory", lambda self: (released.append(self), release_memory(self))
    )
    engine = OpenVinoEngine(folder, msgspec.structs.replace(manifest, tiny_decoder=tiny_decoder), precision="f32")
    first = engine.generate(request(manifest)).pixels
    assert len(released) == releases
    assert np.array_equal(engine.generate(request(manifest)).pixels, first)


@pytest.mark.linux
@pytest.mark.parametrize("static_shapes", [True, False], ids=["static", "dynamic"])
def test_weight_pages_are_released_and_never_written(static_shapes):
    """After a request the UNet's pages are released; none was modified, because releasing it would lose the change."""
    folder = tiny_pipeline.baked(precision="f16")
    manifest = msgspec.structs.replace(manifests.read(folder), static_shapes=static_shapes)
    engine = OpenVinoEngine(folder, manifest)
    engine.generate(request(manifest))
    for part in ("text_encoder", "unet", "decoder"):
        assert mapped(folder / f"{part}.bin", "Anonymous") == 0, part
    unet = folder / "unet.bin"
    assert mapped(unet, "Rss") < unet.stat().st_size / 10


@pytest.mark.parametrize("static_shapes", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize(
    "approximations",
    [{}, {"deepcache_interval": 2, "guidance_interval": (0.0, 0.5)}],
    ids=["exact", "approximations"],
)
def test_after_warming_up_a_request_compiles_nothing(folder, manifest, monkeypatch, static_shapes, approximations):
    """The first request after `warm_up` compiles nothing and copies no weights."""
    manifest = msgspec.structs.replace(
        manifest, static_shapes=static_shapes, approximations=Approximations(**approximations)
    )
    compilations = count_compilations(monkeypatch)
    releasing_pages, copies = MappedWeights.releasing_pages, []
    monkeypatch.setattr(MappedWeights, "releasing_pages", lambda self: copies.append(self) or releasing_pages(self))
    engine = OpenVinoEngine(folder, manifest, precision="f32")
    App(lambda: engine).warm_up()
    before = len(compilations), len(copies)
    assert min(before) > 0
    engine.generate(GenerateRequest(prompt="a dog", seed=1).resolve(manifest.defaults))
    assert (len(compilations), len(copies)) == before


def test_a_guidance_embedding_needs_no_unconditional_pass():
    """A guidance-distilled model runs one sample at any scale, uses the scale, and ignores the negative prompt."""
    folder = tiny_pipeline.baked(name="time_cond_proj_dim", time_cond_proj_dim=32)
    manifest = manifests.read(folder)
    assert (manifest.guidance_embedding, manifest.precision) == (32, "f16")
    calls = ObservedCalls()
    engine = OpenVinoEngine(folder, manifest, precision="f32", observe=calls.record)
    images = [engine.generate(request(manifest, guidance_scale=scale)).pixels for scale in (1.0, 8.0)]
    assert (images[0] != images[1]).any()
    assert {batch for _, batch in calls} == {1}
    negative = engine.generate(request(manifest, guidance_scale=8.0, negative_prompt="dog")).pixels
    assert (negative == images[1]).all()


def test_a_native_size_is_generated_and_resized(folder, manifest):
    """A model with a native size generates at that size, resizes to the requested one, and returns a warning."""
    any_size = OpenVinoEngine(folder, manifest, precision="f32")
    native = OpenVinoEngine(folder, msgspec.structs.replace(manifest, native_size=(64, 48)), precision="f32")
    for guidance_scale in (1.0, 4.0):
        sized = request(manifest, width=64, height=48, guidance_scale=guidance_scale)
        expected = any_size.generate(sized).pixels.astype(int)
        output = native.generate(sized)
        assert np.abs(output.pixels - expected).max() <= 2
        assert output.warnings == []
    output = native.generate(request(manifest, width=256, height=192))
    assert output.pixels.shape == (192, 256, 3)
    assert output.warnings == ["The image was generated at 64x48 and upsampled to 256x192."]
    assert "resize" in output.timings


@pytest.mark.parametrize("module", ["openvino", "deepcache", "mapped_weights"])
def test_openvinos_telemetry_is_not_imported(module):
    """Whichever module imports OpenVINO first, OpenVINO's telemetry package is not imported."""
    code = (
        f"import lambdiff.engine.{module}, sys; "
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_built_in_model_runs_with_avx2_only():
    """With oneDNN limited to AVX2, all that Lambda guarantees, the built-in model generates an image in f32."""
    code = (
        "from lambdiff.protocol.contract import GenerateRequest; from lambdiff.engine.factory import open_engine; "
        "from lambdiff.local import builtin; engine = open_engine(builtin.builtin_model_dir()); "
        "request = GenerateRequest(prompt='a cat', num_inference_steps=1).resolve(engine.manifest.defaults); "
        "print(engine.generate(request).pixels.shape, engine.precision)"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "(256, 256, 3) f32\n"
