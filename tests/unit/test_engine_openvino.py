"""What only the OpenVINO engine does: choosing precision, fixing shapes, opening folders."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest

import tiny_pipeline
from lambdiff.contract import GenerateRequest
from lambdiff.errors import MissingExtra, ModelError
from lambdiff.handler import manifest as manifests
from lambdiff.handler.engine import cpu
from lambdiff.handler.engine.base import open_engine
from lambdiff.handler.engine.diffusers import DiffusersEngine
from lambdiff.handler.engine.openvino import OpenVinoEngine


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
    monkeypatch.delitem(sys.modules, f"lambdiff.handler.engine.{name}")
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


def test_loading_happens_once(folder, manifest, monkeypatch):
    """Threads that come first at the same time wait for one load."""
    engine = OpenVinoEngine(folder, manifest)
    compiled = []
    compile_part = engine._compile
    monkeypatch.setattr(engine, "_compile", lambda *key: compiled.append(key) or compile_part(*key))
    threads = [threading.Thread(target=engine.load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(part for part, _ in compiled) == ["decoder", "text_encoder", "unet"]


def test_work_of_a_request(folder, manifest, monkeypatch):
    """Guidance is one call with two samples, no guidance one sample; a prompt that was seen is not encoded again."""
    engine = OpenVinoEngine(folder, manifest)
    calls = []
    run = engine._run

    def counted(part, batch, inputs):
        calls.append((part, len(next(iter(inputs.values()))) if part != "unet" else len(inputs["sample"])))
        return run(part, batch, inputs)

    monkeypatch.setattr(engine, "_run", counted)
    engine.generate(ask(manifest, guidance_scale=4.0, scheduler="euler"))
    assert calls == [("text_encoder", 1)] * 2 + [("unet", 2)] * 3 + [("decoder", 1)]
    calls.clear()
    engine.generate(ask(manifest, guidance_scale=1.0, scheduler="euler"))
    assert calls == [("unet", 1)] * 3 + [("decoder", 1)]


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
    assert "enlarge" in drawing.timings


def test_no_telemetry():
    """OpenVINO's telemetry package is not importable once the engine is imported first."""
    code = (
        "import lambdiff.handler.engine.openvino, sys; "
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_built_in_model_on_a_processor_held_to_avx2():
    """Lambda promises AVX2 and no more: eight-bit weights compile there, in f32."""
    code = (
        "from lambdiff.contract import GenerateRequest; from lambdiff.handler.engine.base import open_engine; "
        "from lambdiff.local import builtin; engine = open_engine(builtin.folder()); "
        "request = GenerateRequest(prompt='a cat', num_inference_steps=1).resolve(engine.manifest.defaults); "
        "print(engine.generate(request).pixels.shape, engine.precision)"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "(256, 256, 3) f32\n"
