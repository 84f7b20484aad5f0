"""Converting a Stable Diffusion pipeline, and refusing an unusable one (bake/stable_diffusion.py)."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from lambdiff.bake import modules
from lambdiff.bake.bake import bake
from lambdiff.engine import deepcache
from lambdiff.errors import ModelError
from support import tiny_pipeline

pytestmark = pytest.mark.engine


def test_deepcache_is_checked_at_bake_time(source, tmp_path, monkeypatch):
    """A UNet without the expected skip connections is refused at bake time, not at the first request."""
    monkeypatch.setattr(deepcache, "_SKIP", re.compile("elsewhere"))
    with pytest.raises(ModelError, match="no skip connections") as caught:
        bake(source, tmp_path / "out", deepcache_interval=2)
    assert "`deepcache_interval=`" in caught.value.fix
    bake(source, tmp_path / "out")


def test_weights_saved_by_older_versions_load(source):
    """Older weights, with `text_model.` prefixes and other names for the decoder's attention, load correctly."""
    text, vae = source / "text_encoder" / "model.safetensors", source / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({f"text_model.{name}": value for name, value in load_file(text).items()}, text, {"format": "pt"})
    tensors = load_file(vae)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        tensors = {name.replace(f"attentions.0.{new}", f"attentions.0.{old}"): v for name, v in tensors.items()}
    assert "decoder.mid_block.attentions.0.query.weight" in tensors
    save_file(tensors, vae, {"format": "pt"})
    for cls, part in ((CLIPTextModel, "text_encoder"), (AutoencoderKL, "vae")):
        expected = modules.load(cls, tiny_pipeline.folder() / part).state_dict()
        actual = modules.load(cls, source / part).state_dict()
        assert all(torch.equal(actual[name], value) for name, value in expected.items())


def test_missing_parameters_are_refused(source, tmp_path):
    """A file that lacks a parameter is refused; the libraries would fill it with random numbers."""
    path = source / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    missing = min(tensors)
    tensors["other." + missing] = tensors.pop(missing)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 of the model's parameters"):
        bake(source, tmp_path / "out")


def spoil_index(source):
    """Name another class in the index."""
    tiny_pipeline.edit_json(source / "model_index.json", _class_name="StableDiffusion3Pipeline")


def spoil_prediction(source):
    """Let the model predict the image itself, which PNDM cannot use."""
    tiny_pipeline.edit_json(source / "scheduler" / "scheduler_config.json", prediction_type="sample")


def spoil_schedule(source):
    """Give the noise schedule as a list."""
    tiny_pipeline.edit_json(source / "scheduler" / "scheduler_config.json", trained_betas=[0.1, 0.2])


def spoil_scheduler(source):
    """Name a scheduler that diffusers does not have."""
    tiny_pipeline.edit_json(source / "model_index.json", scheduler=["diffusers", "NoSuchScheduler"])


def spoil_unet(source):
    """Give the UNet another input."""
    tiny_pipeline.edit_json(source / "unet" / "config.json", class_embed_type="timestep")


def spoil_weights(source):
    """Truncate the UNet's weights."""
    path = source / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def spoil_json(source):
    """Truncate the autoencoder's configuration."""
    (source / "vae" / "config.json").write_text("{")


def spoil_vae(source):
    """Remove the number of channels from the autoencoder's configuration."""
    tiny_pipeline.edit_json(source / "vae" / "config.json", latent_channels=None)


def remove_text_encoder(source):
    """Remove the text encoder."""
    shutil.rmtree(source / "text_encoder")


def remove_tokenizer(source):
    """Remove the tokenizer."""
    shutil.rmtree(source / "tokenizer")


def remove_index(source):
    """Remove the index."""
    (source / "model_index.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_index, "is a StableDiffusion3Pipeline"),
        (spoil_prediction, "cannot generate with this noise process"),
        (spoil_schedule, "has 2 trained_betas for 1000 timesteps"),
        (spoil_scheduler, "is not supported"),
        (spoil_unet, "has the class_embed_type"),
        (spoil_weights, "is not a complete safetensors file"),
        (spoil_json, "is not JSON"),
        (spoil_vae, "lacks the key latent_channels"),
        (remove_text_encoder, "is missing"),
        (remove_tokenizer, "cannot be read"),
        (remove_index, "is missing"),
    ],
)
def test_unusable_pipelines_are_refused(source, tmp_path, spoil, message):
    """An unusable pipeline raises a `ModelError` with a fix, and no files are left."""
    spoil(source)
    with pytest.raises(ModelError, match=message) as caught:
        bake(source, tmp_path / "out")
    assert caught.value.fix
    assert list(tmp_path.iterdir()) == [source]
