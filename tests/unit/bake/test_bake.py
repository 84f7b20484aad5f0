"""From a diffusers folder to a model folder, and everything that is refused on the way."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import openvino
import pytest
import torch
from click.testing import CliRunner
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from lambdiff.bake import catalogue, convert, quantization, sources
from lambdiff.bake.bake import bake
from lambdiff.cli.bake import bake as command
from lambdiff.engine import deepcache
from lambdiff.engine import manifest as manifests
from lambdiff.errors import ConfigurationError, InvalidRequest, LambdiffError, MissingExtra, ModelError, OutputError
from support import tiny_pipeline


@pytest.fixture
def source(tmp_path):
    """A copy of the tiny pipeline that a test may spoil."""
    return Path(shutil.copytree(tiny_pipeline.folder(), tmp_path / "source"))


def test_an_openvino_folder():
    """Parts, tokenizer and notice are there, hashes hold, and the manifest has the source's facts."""
    folder = tiny_pipeline.baked(precision="f32")
    manifest = manifests.verify(folder)
    assert {file.path for file in manifest.files} == {
        *(f"{part}.{kind}" for part in ("text_encoder", "unet", "decoder") for kind in ("xml", "bin")),
        "tokenizer.json",
        "NOTICE.txt",
    }
    assert (manifest.engine, manifest.precision, manifest.license) == ("openvino", "f32", "MIT")
    assert (manifest.diffusion.beta_end, manifest.diffusion.timestep_spacing) == (0.012, "leading")
    assert (manifest.latents.channels, manifest.latents.factor) == (4, 4)
    assert (manifest.text.max_length, manifest.native_size) == (16, None)
    assert (manifest.defaults.width, manifest.defaults.scheduler) == (64, "pndm")
    assert "No safety checker is run" in manifest.notes


def test_a_diffusers_folder_keeps_the_weights():
    """The files are the source's own, without a safety checker."""
    folder = tiny_pipeline.baked("diffusers")
    manifest = manifests.verify(folder)
    assert manifest.engine == "diffusers"
    for name in ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        assert (folder / name).read_bytes() == (tiny_pipeline.folder() / name).read_bytes()
    assert json.loads((folder / "model_index.json").read_text())["safety_checker"] == [None, None]


def test_facts_given_by_the_caller(source, tmp_path):
    """Name, license, origin, notes, vocabulary, native size and defaults go into the manifest; a license is copied."""
    (source / "LICENSE").write_text("free")
    out = tmp_path / "out"
    manifest = bake(
        source,
        out,
        engine="diffusers",
        name="mine",
        revision="7",
        license="MIT",
        origin=("there",),
        notes="Small.",
        vocabulary=("hat", "cat"),
        native_size=(64, 64),
        defaults={"num_inference_steps": 8, "width": 256, "height": 256, "scheduler": "ddim"},
    )
    assert manifests.read(out) == manifest
    assert (manifest.name, manifest.revision, manifest.license, manifest.origin) == ("mine", "7", "MIT", ["there"])
    assert manifest.notes.startswith("Small. No safety checker")
    assert manifest.text.vocabulary == ["cat", "hat"]
    assert manifest.native_size == (64, 64)
    assert (manifest.defaults.num_inference_steps, manifest.defaults.width) == (8, 256)
    assert (out / "LICENSE").read_text() == "free"
    assert "From: there" in (out / "NOTICE.txt").read_text()


def test_int8_and_another_decoder(source, tmp_path):
    """Eight bits take about a quarter of f32's room; an AutoencoderTiny takes the decoder's place; all is compared."""
    tiny = tiny_pipeline.folder(name="tiny_decoder", tiny_decoder=True) / "vae"
    said: list[str] = []
    manifest = bake(source, tmp_path / "out", precision="int8", decoder=str(tiny), progress=said.append)
    sizes = [
        (folder / "unet.bin").stat().st_size for folder in (tmp_path / "out", tiny_pipeline.baked(precision="f32"))
    ]
    assert sizes[0] < 0.3 * sizes[1]
    assert (manifest.precision, manifest.tiny_decoder, manifest.latents.scaling_factor) == ("int8", True, 1.0)
    assert sum("relative error" in line for line in said) == 3
    with pytest.raises(ModelError, match="is missing"):
        bake(source, tmp_path / "other", decoder=str(tmp_path / "nowhere"))


PROMPTS = ("a cat", "a dog", "two hat", "the red hat", "a cat on blue", "a dog in a hat", "a background", "red dog")


def test_eight_bit_activations_are_kept_if_pictures_stay(source, tmp_path, monkeypatch):
    """A quantised UNet draws about what it drew before; one that does not is refused, and nothing is written."""
    monkeypatch.setattr(quantization, "LOWEST_PSNR", 15.0)
    said: list[str] = []
    defaults = {"num_inference_steps": 3, "guidance_scale": 2.0, "scheduler": "ddim"}
    settings = {"precision": "w8a8", "calibration": PROMPTS, "defaults": defaults}
    manifest = bake(source, tmp_path / "out", progress=said.append, **settings)
    assert manifests.verify(tmp_path / "out") == manifest
    assert manifest.precision == "w8a8"
    assert sum(line.startswith("calibrating") for line in said) == 6
    assert any(re.fullmatch(r"unet: \d+\.\d dB", line) for line in said)
    assert "FakeQuantize" in (tmp_path / "out" / "unet.xml").read_text()
    assert sorted(path.name for path in (tmp_path / "out").glob("unet*")) == ["unet.bin", "unet.xml"]
    monkeypatch.setattr(quantization, "LOWEST_PSNR", 90.0)
    with pytest.raises(ModelError, match="draws other pictures"):
        bake(source, tmp_path / "other", **settings)
    assert not (tmp_path / "other").exists()


def test_attention_is_left_whole(tmp_path, monkeypatch):
    """What it reads is not rounded, since OpenVINO would then take it apart and hold all scores in memory at once."""
    folder = Path(shutil.copytree(tiny_pipeline.baked(precision="f32"), tmp_path / "folder"))
    monkeypatch.setattr(quantization, "LOWEST_PSNR", 0.0)
    quantization.quantize_unet(folder, manifests.read(folder), PROMPTS, lambda _: None)
    nodes = openvino.Core().read_model(folder / "unet.xml").get_ops()
    read = [_origin(node.input_value(n)) for node in nodes if node.get_type_name() == ATTENTION for n in range(3)]
    assert read
    assert "FakeQuantize" not in read


ATTENTION = "ScaledDotProductAttention"


def _origin(value):
    """The kind of operation that computes a value, whatever is done to its shape."""
    node = value.get_node()
    if node.get_type_name() in ("Transpose", "Reshape"):
        return _origin(node.input_value(0))
    return node.get_type_name()


def test_a_refused_quantisation_leaves_the_unet(tmp_path, monkeypatch):
    """The folder's UNet is the one from before, to the byte."""
    folder = Path(shutil.copytree(tiny_pipeline.baked(precision="f32"), tmp_path / "folder"))
    monkeypatch.setattr(quantization, "LOWEST_PSNR", 90.0)
    with pytest.raises(ModelError, match="draws other pictures"):
        quantization.quantize_unet(folder, manifests.read(folder), PROMPTS, lambda _: None)
    manifests.verify(folder)


@pytest.mark.parametrize(
    ("settings", "fixed"),
    [
        ({}, True),
        ({"static_shapes": False}, False),
        ({"native_size": (64, 64)}, False),
        ({"precision": "w8a8", "calibration": PROMPTS}, False),
        ({"guidance_interval": (0.0, 0.5)}, False),
        ({"engine": "diffusers"}, False),
    ],
    ids=["as-is", "asked", "one-size", "w8a8", "interval", "diffusers"],
)
def test_the_default_size_is_compiled_by_itself(source, tmp_path, settings, fixed):
    """Unless asked otherwise, or where it does not pay."""
    assert bake(source, tmp_path / "out", **settings).static_shapes is fixed


def test_shortcuts_are_written_down(source, tmp_path):
    """What was asked for at bake is in the manifest."""
    chosen = {"guidance_interval": (0.0, 0.5), "deepcache_interval": 3}
    manifest = bake(source, tmp_path / "out", static_shapes=True, inference_precision="f32", **chosen)
    assert manifests.read(tmp_path / "out") == manifest
    assert (manifest.approximations.guidance_interval, manifest.approximations.deepcache_interval) == ((0.0, 0.5), 3)
    assert (manifest.static_shapes, manifest.inference_precision) == (True, "f32")


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_interval": (0.5, 0.5)},
        {"guidance_interval": (0.0, 1.5)},
        {"deepcache_interval": 0},
        {"calibration": PROMPTS},
        {"calibration": PROMPTS[:3], "precision": "w8a8"},
        {"calibration": PROMPTS[:1] * 8, "precision": "w8a8"},
        {"calibration": (), "precision": "w8a8"},
        {"deepcache_interval": 2, "engine": "diffusers"},
        {"static_shapes": True, "engine": "diffusers"},
        {"native_size": (64, 72)},
    ],
)
def test_settings_that_make_no_sense(source, tmp_path, settings):
    """They are refused before any work, each with a way out."""
    with pytest.raises(InvalidRequest) as caught:
        bake(source, tmp_path / "out", **settings)
    assert caught.value.fix
    assert not (tmp_path / "out").exists()


def test_features_that_cannot_be_reused_are_found_at_bake(source, tmp_path, monkeypatch):
    """A UNet whose skip connections have other names is refused when it is baked, not at the first request."""
    monkeypatch.setattr(deepcache, "_SKIP", re.compile("elsewhere"))
    with pytest.raises(ModelError, match="no skip connections") as caught:
        bake(source, tmp_path / "out", deepcache_interval=2)
    assert "--deepcache" in caught.value.fix
    bake(source, tmp_path / "out")


def test_calibration_from_a_file(source, tmp_path, monkeypatch):
    """One prompt a line, with a byte-order mark or without; another encoding is a usage error."""
    monkeypatch.setattr(
        "lambdiff.bake.bake.bake", lambda *_, **settings: (_ for _ in ()).throw(OutputError(str(settings)))
    )
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa cat\n\n  a dog \n".encode())
    arguments = [str(source), "-o", str(tmp_path / "out"), "--precision", "w8a8", "--calibration", str(file)]
    assert "('a cat', 'a dog')" in str(CliRunner().invoke(command, arguments).exception)
    file.write_bytes("ein Löwe".encode("latin-1"))
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "UTF-8" in result.output


def test_a_converted_part_that_differs_is_refused(source, tmp_path, monkeypatch):
    """Beyond the bound of its precision nothing is written."""
    monkeypatch.setitem(convert.BOUNDS, "f16", 1e-9)
    with pytest.raises(ModelError, match="text_encoder differs from the original"):
        bake(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [source]


def test_an_existing_folder_is_kept_without_force(source, tmp_path):
    """Neither a model nor anything else is replaced unasked, and only a model is replaced at all."""
    out = tmp_path / "out"
    bake(source, out, engine="diffusers", name="first")
    with pytest.raises(OutputError, match="exists already"):
        bake(source, out, engine="diffusers", name="second")
    assert manifests.read(out).name == "first"
    bake(source, out, engine="diffusers", name="second", force=True)
    assert manifests.read(out).name == "second"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is not a baked model"):
        bake(source, other, engine="diffusers", force=True)
    assert (other / "thesis.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out", "source"]


def test_local_pickles_are_refused(source, tmp_path):
    """A folder of `.bin` files is not read, for either engine."""
    tiny_pipeline.as_pickles(source)
    for engine in ("openvino", "diffusers"):
        with pytest.raises(ModelError, match="is a pickle, which can run code"):
            bake(source, tmp_path / "out", engine=engine)


def test_catalogue_pickles_become_safetensors(source, tmp_path):
    """Every tensor survives, and the pipeline loads from what was written."""
    tiny_pipeline.as_pickles(source)
    assert not list(source.rglob("*.safetensors"))
    again = sources.without_pickles(source, tmp_path / "again")
    sources.check(again, "openvino")
    for path in tiny_pipeline.folder().rglob("*.safetensors"):
        expected, found = load_file(path), load_file(again / path.relative_to(tiny_pipeline.folder()))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_code_in_a_pickle_does_not_run(source, tmp_path):
    """A pickle that would call a function is refused by torch before it does."""

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"weight": Evil()}, source / "unet" / "diffusion_pytorch_model.bin")
    (source / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(Exception, match=r"[Ww]eights"):
        sources.without_pickles(source, tmp_path / "again")
    assert not (tmp_path / "owned").exists()


def test_weights_with_the_names_of_older_versions_load(source):
    """What the hub holds was saved years ago: `text_model.` prefixes and the decoder's old attention names."""
    text, vae = source / "text_encoder" / "model.safetensors", source / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({f"text_model.{name}": value for name, value in load_file(text).items()}, text, {"format": "pt"})
    tensors = load_file(vae)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        tensors = {name.replace(f"attentions.0.{new}", f"attentions.0.{old}"): v for name, v in tensors.items()}
    assert "decoder.mid_block.attentions.0.query.weight" in tensors
    save_file(tensors, vae, {"format": "pt"})
    for cls, part in ((CLIPTextModel, "text_encoder"), (AutoencoderKL, "vae")):
        expected = convert._load(cls, tiny_pipeline.folder() / part).state_dict()
        found = convert._load(cls, source / part).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_missing_parameters_are_not_filled_with_noise(source, tmp_path):
    """A file that lacks a parameter, or names it as another version does, is refused."""
    path = source / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    lost = sorted(tensors)[0]
    tensors["other." + lost] = tensors.pop(lost)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 of the model's parameters"):
        bake(source, tmp_path / "out")


def spoil_index(source):
    """A pipeline of another shape."""
    tiny_pipeline.edit_json(source / "model_index.json", _class_name="StableDiffusionXLPipeline")


def spoil_prediction(source):
    """A scheduler for models that predict the picture."""
    tiny_pipeline.edit_json(source / "scheduler" / "scheduler_config.json", prediction_type="sample")


def spoil_schedule(source):
    """A cosine noise schedule."""
    tiny_pipeline.edit_json(source / "scheduler" / "scheduler_config.json", beta_schedule="squaredcos_cap_v2")


def spoil_scheduler(source):
    """A scheduler from elsewhere."""
    tiny_pipeline.edit_json(source / "scheduler" / "scheduler_config.json", _class_name="NoSuchScheduler")


def spoil_unet(source):
    """A UNet with one more input."""
    tiny_pipeline.edit_json(source / "unet" / "config.json", class_embed_type="timestep")


def spoil_weights(source):
    """A cut file."""
    path = source / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def spoil_json(source):
    """Half a configuration."""
    (source / "vae" / "config.json").write_text("{")


def spoil_vae(source):
    """An autoencoder without a number of channels."""
    tiny_pipeline.edit_json(source / "vae" / "config.json", latent_channels=None)


def lose_part(source):
    """No text encoder."""
    shutil.rmtree(source / "text_encoder")


def lose_tokenizer(source):
    """No tokenizer."""
    shutil.rmtree(source / "tokenizer")


def lose_index(source):
    """No index."""
    (source / "model_index.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_index, "is a StableDiffusionXLPipeline"),
        (spoil_prediction, "is not supported"),
        (spoil_schedule, "is not supported"),
        (spoil_scheduler, "is not supported"),
        (spoil_unet, "has class_embed_type"),
        (spoil_weights, "cannot be read"),
        (spoil_json, "is not JSON"),
        (spoil_vae, "does not say latent_channels"),
        (lose_part, "is missing"),
        (lose_tokenizer, "cannot be read"),
        (lose_index, "is missing"),
    ],
)
def test_unusable_sources(source, tmp_path, spoil, message):
    """Each is a ModelError with a fix, and leaves nothing behind."""
    spoil(source)
    with pytest.raises(ModelError, match=message) as caught:
        bake(source, tmp_path / "out")
    assert caught.value.fix
    assert list(tmp_path.iterdir()) == [source]


def test_sources_that_are_no_folder(tmp_path):
    """A name outside the catalogue, and a hub id without a revision, are explained before any download."""
    with pytest.raises(ConfigurationError, match="neither a folder nor a model") as caught:
        bake("no-such-model", tmp_path / "out")
    assert "tiny-sd" in caught.value.fix
    with pytest.raises(ConfigurationError, match="revision must be given"):
        bake("somebody/model", tmp_path / "out")


def test_an_unreachable_hub_is_a_clear_error(tmp_path, monkeypatch):
    """No network ends in one sentence, not in a traceback, and leaves nothing behind."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigurationError, match="segmind/tiny-sd could not be downloaded") as caught:
        bake("tiny-sd", tmp_path / "out", engine="diffusers")
    assert "HF_ENDPOINT" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_a_catalogue_model_from_the_hub(source, tmp_path, monkeypatch):
    """What the hub would give is baked under the catalogue's name, license and defaults; its pickles are read."""
    tiny_pipeline.as_pickles(source)
    monkeypatch.setattr(sources, "_download", lambda hub_id, revision: source)
    manifest = bake("tiny-sd", tmp_path / "out", engine="diffusers")
    entry = catalogue.CATALOGUE["tiny-sd"]
    assert (manifest.name, manifest.revision, manifest.license) == (entry.name, entry.revision, entry.license)
    assert manifest.defaults == entry.defaults
    assert manifest.origin == [entry.url]
    assert not list((tmp_path / "out").rglob("*.bin"))


@pytest.mark.parametrize("settings", [{"precision": "int8"}, {"decoder": "tiny"}])
def test_the_diffusers_engine_converts_nothing(source, tmp_path, settings):
    """Settings that only conversion has are refused, not ignored."""
    with pytest.raises(LambdiffError, match="keeps the files as they are"):
        bake(source, tmp_path / "out", engine="diffusers", **settings)


@pytest.mark.parametrize(("engine", "module"), [("openvino", "nncf"), ("openvino", "openvino"), ("diffusers", "torch")])
def test_a_missing_extra_names_the_pip_line(source, tmp_path, monkeypatch, engine, module):
    """Without its libraries the command says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as caught:
        bake(source, tmp_path / "out", engine=engine)
    assert caught.value.fix == 'Install it: pip install "lambdiff[bake]"'


def test_command(source, tmp_path):
    """The command prints one line for people, or the manifest; progress goes to stderr."""
    result = CliRunner().invoke(command, [str(source), "-o", str(tmp_path / "a"), "--engine", "diffusers"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path / 'a'}: source, diffusers, f32, ")
    assert "hashing" in result.stderr
    result = CliRunner().invoke(command, [str(source), "-o", str(tmp_path / "b"), "--engine", "diffusers", "--json"])
    assert json.loads(result.stdout)["name"] == "source"
