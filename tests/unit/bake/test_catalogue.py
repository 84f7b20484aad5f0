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


def test_only_one_entry_is_pickled():
    """Pickled weights are accepted for one known model only."""
    assert [entry.name for entry in catalogue.CATALOGUE.values() if entry.pickled] == ["tiny-sd"]


def test_find_by_name_and_by_hub_id():
    """Name and hub id find the same entry; anything else finds None."""
    assert catalogue.find("tiny-sd") is catalogue.find("segmind/tiny-sd") is catalogue.CATALOGUE["tiny-sd"]
    assert catalogue.find("segmind/other") is None


def test_get_lists_the_names():
    """The error for an unknown name lists the known ones."""
    with pytest.raises(ConfigurationError) as caught:
        catalogue.get("tiny")
    assert "tiny-sd, lcm-dreamshaper" in caught.value.fix
