"""The catalogue of models (bake/catalogue.py)."""

from __future__ import annotations

import re

import pytest

from lambdiff.bake import catalogue
from lambdiff.bake.tiny_decoders import TINY_DECODERS
from lambdiff.errors import ConfigurationError


@pytest.mark.parametrize(
    "entry", [*catalogue.CATALOGUE.values(), *TINY_DECODERS.values()], ids=lambda entry: entry.name
)
def test_entries_are_pinned_and_licensed(entry):
    """Each entry is pinned to a commit, never a branch, and names a license and the URL of its text."""
    assert re.fullmatch("[0-9a-f]{40}", entry.revision)
    assert entry.license
    assert entry.license_url.startswith("https://")
    assert entry.revision in entry.url
    if entry.lora:
        assert re.fullmatch("[0-9a-f]{40}", entry.lora.revision)
        assert entry.lora.revision in entry.lora.url
        assert entry.lora.file.endswith(".safetensors")
        assert entry.commits == f"{entry.revision[:12]}+{entry.lora.revision[:12]}"


def test_only_one_entry_is_pickled():
    """Pickled weights are accepted for one known model only."""
    assert [entry.name for entry in catalogue.CATALOGUE.values() if entry.pickled] == ["tiny-sd"]


def test_find_by_name_and_by_hub_id():
    """Name and hub id find the same entry; anything else finds None."""
    assert catalogue.find("tiny-sd") is catalogue.find("segmind/tiny-sd") is catalogue.CATALOGUE["tiny-sd"]
    assert catalogue.find("segmind/other") is None


def test_a_hub_id_stands_for_the_model_without_a_lora():
    """Whoever names the plain model gets it, and not the entry that merges a LoRA into it."""
    entry = catalogue.CATALOGUE["sd15-lcm"]
    assert catalogue.find("sd15-lcm") is entry
    assert catalogue.find(entry.hub_id) is None


def test_operations_grow_with_steps_and_pixels():
    """A tiny decoder saves most of a one-step model's operations, and few of a model's with 25 guided steps."""
    share = {name: entry.tflop("tiny") / entry.tflop("full") for name, entry in catalogue.CATALOGUE.items()}
    assert share["sd-turbo"] < 0.3
    assert share["tiny-sd"] > 0.9
    assert all(entry.denoising_tflop > 0 for entry in catalogue.CATALOGUE.values())
    assert (
        min(catalogue.CATALOGUE.values(), key=lambda entry: entry.tflop(entry.own_decoder)).name == "sdxs-dreamshaper"
    )


def test_get_lists_the_names():
    """The error for an unknown name lists the known ones."""
    with pytest.raises(ConfigurationError) as caught:
        catalogue.get("tiny")
    assert "tiny-sd, lcm-dreamshaper" in caught.value.fix
