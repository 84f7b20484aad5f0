"""What only the OpenVINO engine does: choosing precision, fixing shapes, opening folders."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest

from lambdiff.engine import cpu
from lambdiff.engine import manifest as manifests
from lambdiff.engine.diffusers import DiffusersEngine
from lambdiff.engine.factory import open_engine
from lambdiff.engine.manifest import Approximations
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.errors import MissingExtra, ModelError
from lambdiff.handler.app import App
from lambdiff.protocol.contract import GenerateRequest
from support import tiny_pipeline
from support.smaps import mapped

pytestmark = pytest.mark.engine


@pytest.fixture
def folder():
    """A baked model."""
    return tiny_pipeline.baked(precision="f32")


@pytest.fixture
def manifest(folder):
    """Its manifest."""
    return manifests.read(folder)


def ask(manifest, **fields):
    """A request with the model's defaults, three steps."""
    fields = {"prompt": "a cat", "seed": 1, "num_inference_steps": 3} | fields
    return GenerateRequest(**fields).resolve(manifest.defaults)


def test_open_engine_follows_the_manifest(folder):
    """The manifest names the engine; construction reads no weights."""
    engine = open_engine(folder)
    assert isinstance(engine, OpenVinoEngine)
    assert not engine.loaded
    assert engine.precision == "f32"
    assert isinstance(open_engine(tiny_pipeline.baked("diffusers")), DiffusersEngine)


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("openvino", "openvino", "local"), ("diffusers", "torch", "diffusers")]
)
def test_a_missing_library_is_named_with_its_extra(folder, monkeypatch, name, module, extra):
    """Opening the engine says what to install."""
    monkeypatch.delitem(sys.modules, f"lambdiff.engine.{name}")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as caught:
        open_engine(folder, name)
    assert caught.value.extra == extra


def test_a_folder_without_a_part(folder, manifest, tmp_path):
    """A missing part is the folder's fault, said in one sentence."""
    with pytest.raises(ModelError, match="cannot be loaded"):
        OpenVinoEngine(tmp_path, manifest).load()


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "f32")])
def test_precision_follows_the_processor(folder, manifest, monkeypatch, has_bf16, precision):
    """bf16 where it is in hardware and OpenVINO lists it, f32 elsewhere."""
    import openvino

    if has_bf16 and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precision = "f32"
    monkeypatch.setattr(cpu, "has_bf16", lambda: has_bf16)
    engine = OpenVinoEngine(folder, manifest)
    engine.load()
    assert engine.precision == precision


@pytest.mark.parametrize(("asked", "precision"), [("f32", "f32"), ("auto", "bf16")])
def test_precision_follows_the_manifest(folder, manifest, monkeypatch, asked, precision):
    """A model that asks for f32 gets it even where there is bf16."""
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "BF16"])
    monkeypatch.setattr(cpu, "has_bf16", lambda: True)
    engine = OpenVinoEngine(folder, msgspec.structs.replace(manifest, inference_precision=asked))
    monkeypatch.setattr(engine, "_compile", lambda graph: graph)
    engine.load()
    assert engine.precision == precision


def test_loading_happens_once(folder, manifest, monkeypatch):
    """Threads that come first at the same time wait for one load."""
    engine = OpenVinoEngine(folder, manifest)
    compiled = []
    compile_part = engine._compile
    monkeypatch.setattr(engine, "_compile", lambda graph: compiled.append(graph.part) or compile_part(graph))
    threads = [threading.Thread(target=engine.load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(compiled) == ["decoder", "text_encoder", "unet"]


@pytest.fixture
def calls(monkeypatch):
    """The graphs that engines run, each with its batch."""
    found = []
    run = OpenVinoEngine._run

    def counted(engine, graph, inputs):
        first = next(iter(inputs.values()))
        found.append((graph.part, len(inputs.get("sample", first))))
        return run(engine, graph, inputs)

    monkeypatch.setattr(OpenVinoEngine, "_run", counted)
    return found


def test_work_of_a_request(folder, manifest, calls):
    """Guidance is one call with two samples, no guidance one sample; a prompt that was seen is not encoded again."""
    engine = OpenVinoEngine(folder, manifest)
    engine.generate(ask(manifest, guidance_scale=4.0, scheduler="euler"))
    assert calls == [("text_encoder", 1)] * 2 + [("unet", 2)] * 3 + [("decoder", 1)]
    calls.clear()
    engine.generate(ask(manifest, guidance_scale=1.0, scheduler="euler"))
    assert calls == [("unet", 1)] * 3 + [("decoder", 1)]


def with_shortcuts(manifest, **approximations):
    """The manifest with some of its approximations taken."""
    return msgspec.structs.replace(manifest, approximations=Approximations(**approximations))


@pytest.mark.parametrize("native_size", [None, (64, 64)], ids=["open", "one-size"])
def test_guidance_on_part_of_the_steps(folder, manifest, calls, native_size):
    """Outside the interval one sample is enough; over all steps it is the ordinary picture, to the pixel."""
    manifest = msgspec.structs.replace(manifest, native_size=native_size)
    request = ask(manifest, guidance_scale=4.0, scheduler="euler", num_inference_steps=4, width=64, height=64)
    whole = OpenVinoEngine(folder, manifest, precision="f32").generate(request).pixels
    for interval, batches in (((0.0, 1.0), [2, 2, 2, 2]), ((0.0, 0.5), [2, 2, 1, 1]), ((0.25, 0.75), [1, 2, 2, 1])):
        calls.clear()
        engine = OpenVinoEngine(folder, with_shortcuts(manifest, guidance_interval=interval), precision="f32")
        pixels = engine.generate(request).pixels
        assert [batch for part, batch in calls if part == "unet"] == batches
        assert (pixels == whole).all() == (interval == (0.0, 1.0))


def test_too_few_steps_to_guide_any(folder, manifest):
    """Where the interval holds none of a request's steps, the reply says so; one without guidance hears nothing."""
    engine = OpenVinoEngine(folder, with_shortcuts(manifest, guidance_interval=(0.3, 0.45)), precision="f32")
    assert engine.generate(ask(manifest, guidance_scale=4.0, num_inference_steps=4)).warnings == [
        "This endpoint guides none of 4 steps: ask for more."
    ]
    assert engine.generate(ask(manifest, guidance_scale=1.0, num_inference_steps=4)).warnings == []
    assert engine.generate(ask(manifest, guidance_scale=4.0, num_inference_steps=8)).warnings == []


@pytest.mark.parametrize("native_size", [None, (64, 64)], ids=["open", "one-size"])
def test_features_of_an_earlier_step(folder, manifest, calls, native_size):
    """Between whole calls only the outer layers run; a guided call never reuses an unguided one's features."""
    manifest = msgspec.structs.replace(manifest, native_size=native_size)
    request = ask(manifest, guidance_scale=4.0, scheduler="ddim", num_inference_steps=5, width=64, height=64)
    whole = OpenVinoEngine(folder, manifest, precision="f32").generate(request).pixels
    calls.clear()
    engine = OpenVinoEngine(folder, with_shortcuts(manifest, deepcache_interval=3), precision="f32")
    pixels = engine.generate(request).pixels
    assert calls[2:-1] == [("unet", 2), ("unet_outer", 2), ("unet_outer", 2), ("unet", 2), ("unet_outer", 2)]
    assert (pixels != whole).any()
    calls.clear()
    late = with_shortcuts(manifest, deepcache_interval=3, guidance_interval=(0.2, 0.6))
    OpenVinoEngine(folder, late, precision="f32").generate(request)
    assert calls[2:-1] == [("unet", 1), ("unet", 2), ("unet_outer", 2), ("unet", 1), ("unet_outer", 1)]


def test_the_outer_layers_agree_with_the_whole(folder, manifest):
    """With features of the same call, not an earlier one's, the outer layers give what the whole UNet gives."""
    engine = OpenVinoEngine(folder, with_shortcuts(manifest, deepcache_interval=2), precision="f32")
    engine.load()
    random = np.random.default_rng(0)
    inputs = {
        "sample": np.repeat(random.standard_normal((1, 4, 16, 16), np.float32), 2, axis=0),
        "timestep": np.array([300.0], np.float32),
        "encoder_hidden_states": random.standard_normal((2, 16, 32), np.float32),
    }
    output, features = engine._run(engine._graph("unet", 2, (64, 64)), inputs)
    (again,) = engine._run(engine._graph("unet_outer", 2, (64, 64)), {**inputs, "features": features})
    np.testing.assert_allclose(again, output, atol=1e-5)


def test_a_fixed_size(folder, manifest):
    """The default size has graphs of its own, with the same picture but for rounding; other sizes are drawn as ever."""
    fixed = OpenVinoEngine(folder, msgspec.structs.replace(manifest, static_shapes=True), precision="f32")
    plain = OpenVinoEngine(folder, manifest, precision="f32")
    for width, height in ((64, 64), (96, 64)):
        request = ask(manifest, width=width, height=height)
        difference = fixed.generate(request).pixels.astype(int) - plain.generate(request).pixels
        assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("other", [{"width": 96}, {"guidance_scale": 1.0}], ids=["size", "batch"])
def test_weights_are_in_memory_once(folder, manifest, other):
    """The first request of another shape puts open graphs in the place of the fixed ones, which then serve all."""
    engine = OpenVinoEngine(folder, msgspec.structs.replace(manifest, static_shapes=True), precision="f32")

    def unets():
        return [(graph.batch, graph.size) for graph in engine._requests if graph.part == "unet"]

    engine.generate(ask(manifest))
    assert unets() == [(2, (64, 64))]
    for fields in (other, {}):
        engine.generate(ask(manifest, **fields))
        assert unets() == [(0, None)]


@pytest.mark.parametrize(("tiny", "freed"), [(False, 3), (True, 0)], ids=["full", "tiny"])
def test_the_full_decoder_has_the_memory_for_itself(folder, manifest, monkeypatch, tiny, freed):
    """UNet and text encoder make room for it, and it for them; the next picture is the same."""
    import openvino

    release, asked = openvino.CompiledModel.release_memory, []
    monkeypatch.setattr(openvino.CompiledModel, "release_memory", lambda self: (asked.append(self), release(self)))
    engine = OpenVinoEngine(folder, msgspec.structs.replace(manifest, tiny_decoder=tiny), precision="f32")
    first = engine.generate(ask(manifest)).pixels
    assert len(asked) == freed
    assert np.array_equal(engine.generate(ask(manifest)).pixels, first)


@pytest.mark.linux
@pytest.mark.parametrize("static_shapes", [True, False], ids=["fixed", "open"])
def test_weights_leave_memory_and_are_not_written_to(static_shapes):
    """After a picture the UNet's file is no longer in memory, and no page was changed: that would be lost with it."""
    folder = tiny_pipeline.baked(precision="f16")
    manifest = msgspec.structs.replace(manifests.read(folder), static_shapes=static_shapes)
    engine = OpenVinoEngine(folder, manifest)
    engine.generate(ask(manifest))
    for part in ("text_encoder", "unet", "decoder"):
        assert mapped(folder / f"{part}.bin", "Anonymous") == 0, part
    unet = folder / "unet.bin"
    assert mapped(unet, "Rss") < unet.stat().st_size / 10


@pytest.mark.parametrize("static_shapes", [True, False], ids=["fixed", "open"])
@pytest.mark.parametrize(
    "approximations", [{}, {"deepcache_interval": 2, "guidance_interval": (0.0, 0.5)}], ids=["all", "part"]
)
def test_warming_up_leaves_nothing(folder, manifest, static_shapes, approximations):
    """The first request afterwards compiles no graph, and none has weights left to copy."""
    manifest = msgspec.structs.replace(
        manifest, static_shapes=static_shapes, approximations=Approximations(**approximations)
    )
    engine = OpenVinoEngine(folder, manifest, precision="f32")
    App(lambda: engine).warm_up()
    graphs, seen = list(engine._requests), set(engine._seen)
    engine.generate(GenerateRequest(prompt="a dog", seed=1).resolve(manifest.defaults))
    assert (list(engine._requests), engine._seen) == (graphs, seen)


def test_a_guidance_embedding_needs_no_second_sample():
    """A model that was distilled with guidance is called with one sample at any scale, and the scale matters."""
    folder = tiny_pipeline.baked(name="time_cond_proj_dim", time_cond_proj_dim=32)
    manifest = manifests.read(folder)
    assert (manifest.guidance_embedding, manifest.precision) == (32, "f16")
    engine = OpenVinoEngine(folder, manifest, precision="f32")
    pictures = [engine.generate(ask(manifest, guidance_scale=scale)).pixels for scale in (1.0, 8.0)]
    assert (pictures[0] != pictures[1]).any()
    without = engine.generate(ask(manifest, guidance_scale=8.0, negative_prompt="dog")).pixels
    assert (without == pictures[1]).all()


def test_a_model_of_one_size(folder, manifest):
    """It draws that size with shapes fixed, then brings it to the requested one and says so."""
    open_size = OpenVinoEngine(folder, manifest, precision="f32")
    one_size = OpenVinoEngine(folder, msgspec.structs.replace(manifest, native_size=(64, 48)), precision="f32")
    for guidance_scale in (1.0, 4.0):
        request = ask(manifest, width=64, height=48, guidance_scale=guidance_scale)
        expected = open_size.generate(request).pixels.astype(int)
        drawing = one_size.generate(request)
        assert np.abs(drawing.pixels - expected).max() <= 2
        assert drawing.warnings == []
    drawing = one_size.generate(ask(manifest, width=256, height=192))
    assert drawing.pixels.shape == (192, 256, 3)
    assert drawing.warnings == ["The picture was drawn at 64x48 and enlarged to 256x192."]
    assert "resize" in drawing.timings


def test_no_telemetry():
    """OpenVINO's telemetry package is not importable once the engine is imported first."""
    code = (
        "import lambdiff.engine.openvino, sys; "
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_built_in_model_on_a_processor_held_to_avx2():
    """Lambda promises AVX2 and no more: eight-bit weights compile there, in f32."""
    code = (
        "from lambdiff.protocol.contract import GenerateRequest; from lambdiff.engine.factory import open_engine; "
        "from lambdiff.local import builtin; engine = open_engine(builtin.folder()); "
        "request = GenerateRequest(prompt='a cat', num_inference_steps=1).resolve(engine.manifest.defaults); "
        "print(engine.generate(request).pixels.shape, engine.precision)"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "(256, 256, 3) f32\n"
