"""Finding the source of a bake: paths, the catalogue, the hub, and pickles (bake/sources.py)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from lambdiff.bake import catalogue, complete_weights, pipeline_folder, sources
from lambdiff.bake.bake import bake
from lambdiff.errors import ConfigurationError, ModelError
from support import tiny_lora, tiny_pipeline

pytestmark = pytest.mark.engine


def test_local_pickles_are_refused(source, tmp_path):
    """A folder with pickled weights is refused for either engine."""
    tiny_pipeline.as_pickles(source)
    for engine in ("openvino", "diffusers"):
        with pytest.raises(ModelError, match="is a pickle, which can run code"):
            bake(source, tmp_path / "out", engine=engine)


def test_catalogue_pickles_become_safetensors(source, tmp_path):
    """Conversion keeps every tensor and leaves a pipeline without pickles."""
    tiny_pipeline.as_pickles(source)
    assert not list(source.rglob("*.safetensors"))
    converted = sources.convert_pickles(source, tmp_path / "converted")
    complete_weights.check(converted, pipeline_folder.read_index(converted))
    for path in tiny_pipeline.folder().rglob("*.safetensors"):
        expected, actual = load_file(path), load_file(converted / path.relative_to(tiny_pipeline.folder()))
        assert expected.keys() == actual.keys()
        assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_code_in_a_pickle_does_not_run(source, tmp_path):
    """A pickle that would call a function is refused before the call."""

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"weight": Evil()}, source / "unet" / "diffusion_pytorch_model.bin")
    (source / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(Exception, match=r"[Ww]eights"):
        sources.convert_pickles(source, tmp_path / "converted")
    assert not (tmp_path / "owned").exists()


def test_an_unknown_source_is_refused(tmp_path):
    """A name that is not in the catalogue and a hub id without a revision are refused before any download."""
    with pytest.raises(ConfigurationError, match="neither a folder nor a model") as caught:
        bake("no-such-model", tmp_path / "out")
    assert "tiny-sd" in caught.value.fix
    with pytest.raises(ConfigurationError, match="revision is required"):
        bake("somebody/model", tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    ["missing/x.safetensors", "missing/x.ckpt", "./missing", "/missing", "~/missing", "a/b/c", "a\\b", "a b/c", "../x"],
)
def test_a_path_is_never_taken_for_a_hub_id(tmp_path, name):
    """A path of a file or of a missing folder is refused, and is not looked for on the hub."""
    with pytest.raises(ConfigurationError, match="neither a folder nor a model"):
        sources.locate(name, "abc123", tmp_path, lambda _: None)


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt", "model"])
def test_a_file_is_read_as_a_checkpoint(tmp_path, monkeypatch, name):
    """A single file is checked as such, also by a relative path that looks like a hub id."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / name).write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    for source in (f"src/{name}", tmp_path / "src" / name):
        with pytest.raises(ModelError, match=r"is not a complete safetensors file|is a pickle"):
            sources.locate(source, "abc123", tmp_path, lambda _: None)


def test_an_unreachable_hub_is_a_clear_error(tmp_path, monkeypatch):
    """If the hub cannot be reached, the error names the model, and no files are left."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigurationError, match="segmind/tiny-sd could not be downloaded") as caught:
        bake("tiny-sd", tmp_path / "out", engine="diffusers")
    assert "HF_ENDPOINT" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_a_catalogue_model_gets_the_catalogues_values(source, tmp_path, monkeypatch):
    """A downloaded model gets the catalogue's name, license and defaults; its pickles are converted."""
    tiny_pipeline.as_pickles(source)
    monkeypatch.setattr(sources, "_list_files", lambda *_: None)
    monkeypatch.setattr(sources, "_download", lambda *_: source)
    manifest = bake("tiny-sd", tmp_path / "out", engine="diffusers")
    entry = catalogue.CATALOGUE["tiny-sd"]
    assert (manifest.name, manifest.revision, manifest.license) == (entry.name, entry.revision, entry.license)
    assert manifest.defaults == msgspec.structs.replace(entry.defaults, prompt_syntax="a1111")
    assert manifest.origin == [entry.url]
    assert not list((tmp_path / "out").rglob("*.bin"))


def test_a_catalogue_model_gets_its_lora(source, tmp_path, monkeypatch):
    """The LoRA of an entry is downloaded, merged and named; its sampler and steps are the entry's."""
    entry = catalogue.CATALOGUE["sd15-lcm"]
    snapshot = tmp_path / f"models--{entry.lora.hub_id.replace('/', '--')}" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    tiny_lora.save(tiny_lora.make(StableDiffusionPipeline.from_pretrained(source)), snapshot / entry.lora.file)
    folders = {entry.hub_id: source, entry.lora.hub_id: snapshot}
    monkeypatch.setattr(sources, "_list_files", lambda *_: None)
    monkeypatch.setattr(sources, "_download", lambda hub_id, *_: folders[hub_id])
    manifest = bake("sd15-lcm", tmp_path / "out", engine="diffusers")
    assert [(file.kind, file.name, file.weight) for file in manifest.sources] == [("lora", entry.lora.file, 1.0)]
    assert manifest.defaults == msgspec.structs.replace(entry.defaults, prompt_syntax="a1111")
    assert manifest.origin == [entry.url, entry.lora.url]
    assert entry.lora.url in (tmp_path / "out" / "NOTICE.txt").read_text()
    assert "made for LCM" in manifest.notes
