"""Compiled graphs that outlive the process (local/compiled_graphs.py), with the runtime that asks for them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino
import pytest

from lambdiff.engine import cpu
from lambdiff.engine import manifest as manifests
from lambdiff.engine.manifest import Manifest
from lambdiff.engine.runtime import Part, Runtime, Shape
from lambdiff.local import builtin, compiled_graphs
from lambdiff.local.compiled_graphs import CompiledGraphs

pytestmark = pytest.mark.engine

DEFAULT, GUIDED, DYNAMIC = Shape(1, 4, 4), Shape(2, 4, 4), None


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """The manifest that the graphs' folder is named after."""
    return manifests.read(builtin.builtin_model_dir())


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do without a cache, except those of the cache."""
    monkeypatch.delenv("LAMBDIFF_NO_CACHE", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one part, `conv`, a convolution with random weights."""
    save_model(tmp_path / "conv.xml", seed=1)
    return tmp_path


def save_model(path: Path, seed: int) -> None:
    """Write a part whose weights depend on the seed."""
    parameter = openvino.opset15.parameter([-1, 2, -1, -1], np.float32)
    parameter.output(0).get_tensor().set_names({"latents"})
    weights = np.random.default_rng(seed).standard_normal((2, 2, 3, 3)).astype(np.float32)
    conv = openvino.opset15.convolution(parameter, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    openvino.save_model(openvino.Model([conv], [parameter], "conv"), path, compress_to_fp16=False)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The models that OpenVINO has compiled since the list was cleared, by name."""
    names: list[str] = []
    compile_model = openvino.Core.compile_model

    def observed(core: openvino.Core, model: openvino.Model, *arguments: object) -> openvino.CompiledModel:
        names.append(model.friendly_name)
        return compile_model(core, model, *arguments)

    monkeypatch.setattr(openvino.Core, "compile_model", observed)
    return names


def run(folder: Path, manifest: Manifest, shape: Shape | None = DEFAULT, **options: object) -> bytes:
    """Do what a process does: load, infer, keep the graphs. Return the output's bytes."""
    graphs = compiled_graphs.open_graphs(folder, manifest)
    runtime = Runtime(folder, cache=graphs, **{"precision": "f32", "threads": 1, **options})  # type: ignore[arg-type]
    needed = [shape or DEFAULT]
    runtime.load([Part("conv")], {"conv": needed}, is_static=lambda *_: shape is not None)
    batch, height, width, _ = needed[0]
    latents = np.random.default_rng(0).standard_normal((batch, 2, height, width)).astype(np.float32)
    (output,) = runtime.serve("conv", needed)({"latents": latents})
    if graphs is not None:
        graphs.save()
    return output.tobytes()


def files() -> list[Path]:
    """Return the files in the cache."""
    return [path for path in compiled_graphs.cache_folder().root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("shape", [DEFAULT, DYNAMIC], ids=["static", "dynamic"])
def test_the_second_process_compiles_nothing(
    folder: Path, manifest: Manifest, compiled: list[str], shape: Shape | None
) -> None:
    """A graph is compiled once; restored, it gives the same bits."""
    first = run(folder, manifest, shape)
    assert compiled == ["conv"]
    assert run(folder, manifest, shape) == first
    assert compiled == ["conv"]
    assert len(files()) == 1


def test_everything_that_a_graph_depends_on_is_part_of_its_key(
    folder: Path, manifest: Manifest, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another shape, setting, version, processor or model is compiled anew; what was compiled before is still found."""
    run(folder, manifest)
    others = [
        lambda: run(folder, manifest, GUIDED),
        lambda: run(folder, manifest, DYNAMIC),
        lambda: run(folder, manifest, threads=2),
        lambda: run(folder, manifest, precision="bf16" if cpu.has_bf16() else "f16"),
    ]
    for number, other in enumerate(others, 2):
        other()
        assert len(compiled) == number
    for target, name, value in (
        (openvino, "get_version", lambda: "2099.1"),
        (compiled_graphs, "__version__", "99.0"),
        (cpu, "identity", lambda: ["sse2"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, value)
            before = len(compiled)
            run(folder, manifest)
            assert len(compiled) == before + 1
    before = len(compiled)
    for other in others:
        other()
    assert len(compiled) == before


def test_the_environment_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that limits the instructions changes the identity of the processor."""
    before = cpu.identity()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert cpu.identity() != before


def test_changed_weights_are_never_served_from_the_cache(folder: Path, manifest: Manifest) -> None:
    """Weights of the same size and age, under the same manifest, give their own output."""
    old = run(folder, manifest)
    before = (folder / "conv.bin").stat()
    save_model(folder / "conv.xml", seed=2)
    os.utime(folder / "conv.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / "conv.bin").stat().st_size == before.st_size
    assert run(folder, manifest) != old


def test_a_copy_of_a_model_uses_the_same_graphs(
    folder: Path, manifest: Manifest, compiled: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two installations of one model share their graphs."""
    first = run(folder, manifest)
    copy = tmp_path_factory.mktemp("copy")
    for name in ("conv.xml", "conv.bin"):
        (copy / name).write_bytes((folder / name).read_bytes())
    assert run(copy, manifest) == first
    assert compiled == ["conv"]


def test_a_damaged_graph_is_compiled_and_replaced(folder: Path, manifest: Manifest, compiled: list[str]) -> None:
    """A damaged file costs a compilation and nothing else."""
    first = run(folder, manifest)
    (path,) = files()
    content = path.read_bytes()
    for damaged in (content[:1000], content[:-100] + bytes(100), b""):
        path.write_bytes(damaged)
        compiled.clear()
        assert run(folder, manifest) == first
        assert run(folder, manifest) == first
        assert compiled == ["conv"]


def test_a_graph_that_openvino_refuses_is_compiled_and_replaced(
    folder: Path, manifest: Manifest, compiled: list[str]
) -> None:
    """If OpenVINO cannot import a file whose digest is right, the graph is compiled."""
    first = run(folder, manifest)
    (path,) = files()
    exported = path.read_bytes()[:-32]
    for content in (b"no graph", exported[: len(exported) // 2]):
        compiled_graphs.cache_folder().write(path, io.BytesIO(content))
        compiled.clear()
        assert run(folder, manifest) == first
        assert run(folder, manifest) == first
        assert compiled == ["conv"]


def test_without_a_usable_folder_nothing_is_kept(
    folder: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be created, or that others can change, and LAMBDIFF_NO_CACHE turn the cache off."""
    expected = run(folder, manifest)
    monkeypatch.setenv("LAMBDIFF_NO_CACHE", "1")
    assert compiled_graphs.open_graphs(folder, manifest) is None
    assert compiled_graphs.problem() == "LAMBDIFF_NO_CACHE is set."
    monkeypatch.delenv("LAMBDIFF_NO_CACHE")
    monkeypatch.setenv("LAMBDIFF_HOME", "/dev/null")
    assert compiled_graphs.open_graphs(folder, manifest) is None
    assert run(folder, manifest) == expected
    shared = tmp_path / "shared" / "cache" / "compiled"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    monkeypatch.setenv("LAMBDIFF_HOME", str(tmp_path / "shared"))
    assert compiled_graphs.open_graphs(folder, manifest) is None
    assert run(folder, manifest) == expected
    assert files() == []


def test_large_models_are_not_kept(
    folder: Path, manifest: Manifest, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose weights exceed the limit is neither hashed, nor exported, nor kept."""
    monkeypatch.setattr(compiled_graphs, "MODEL_LIMIT", 10)
    hashed = []
    monkeypatch.setattr(CompiledGraphs, "_path", lambda *_: hashed.append(1))
    run(folder, manifest)
    run(folder, manifest)
    assert compiled == ["conv", "conv"]
    assert (files(), hashed) == ([], [])


def test_graphs_compiled_during_a_request_are_not_kept(folder: Path, manifest: Manifest, compiled: list[str]) -> None:
    """Only the graphs of the default request are kept: graphs of unusual requests would displace them."""
    graphs = compiled_graphs.open_graphs(folder, manifest)
    runtime = Runtime(folder, precision="f32", threads=1, cache=graphs)
    runtime.load([Part("conv")], {"conv": [DEFAULT]}, is_static=lambda *_: True)
    runtime.serve("conv", [GUIDED])({"latents": np.zeros((2, 2, 4, 4), np.float32)})
    assert graphs is not None
    graphs.save()
    assert len(compiled) == 2
    assert len(files()) == 1


def test_graphs_can_be_kept_after_the_runtime_is_gone(folder: Path, manifest: Manifest, compiled: list[str]) -> None:
    """Exporting a graph reads the model's weights, which therefore stay in memory until `save`."""
    graphs = compiled_graphs.open_graphs(folder, manifest)
    runtime = Runtime(folder, precision="f32", threads=1, cache=graphs)
    runtime.load([Part("conv")], {"conv": [DEFAULT]}, is_static=lambda *_: True)
    del runtime
    assert graphs is not None
    graphs.save()
    run(folder, manifest)
    assert compiled == ["conv"]


@pytest.mark.linux
def test_a_forked_process_keeps_nothing(folder: Path, manifest: Manifest) -> None:
    """After a fork OpenVINO cannot be used, so the child does not export what its parent has compiled."""
    graphs = compiled_graphs.open_graphs(folder, manifest)
    runtime = Runtime(folder, precision="f32", threads=1, cache=graphs)
    runtime.load([Part("conv")], {"conv": [DEFAULT]})
    assert graphs is not None
    if (child := os.fork()) == 0:
        graphs.save()
        os._exit(len(files()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    graphs.save()
    assert len(files()) == 1
