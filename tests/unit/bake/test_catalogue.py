"""The catalogue of models and `lambdiff models`."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from lambdiff.bake import catalogue
from lambdiff.cli.models import models as command
from lambdiff.errors import ConfigurationError


@pytest.mark.parametrize("model", [*catalogue.CATALOGUE.values(), catalogue.TINY_DECODER], ids=lambda model: model.name)
def test_entries_are_pinned_and_licensed(model):
    """Each entry names one commit, never a branch, and a license with its text."""
    assert re.fullmatch("[0-9a-f]{40}", model.revision)
    assert model.license
    assert model.license_url.startswith("https://")
    assert model.revision in model.url


def test_only_the_tutorials_model_may_be_pickled():
    """Pickles are an exception for one known model."""
    assert [model.name for model in catalogue.CATALOGUE.values() if model.pickled] == ["tiny-sd"]


def test_find_by_name_and_by_hub_id():
    """Both names lead to the same entry; others to none."""
    assert catalogue.find("tiny-sd") is catalogue.find("segmind/tiny-sd") is catalogue.CATALOGUE["tiny-sd"]
    assert catalogue.find("segmind/other") is None


def test_get_lists_what_there_is():
    """A wrong name is answered with the right ones."""
    with pytest.raises(ConfigurationError) as caught:
        catalogue.get("tiny")
    assert "tiny-sd, lcm-dreamshaper" in caught.value.fix


def test_command_lists_each_model():
    """The list for people has each name, hub id and license."""
    output = CliRunner().invoke(command, []).output
    for model in catalogue.CATALOGUE.values():
        assert model.name in output
        assert model.hub_id in output
        assert model.license in output


def test_command_prints_json():
    """The list for machines has whole revisions and defaults."""
    entries = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert [entry["name"] for entry in entries] == list(catalogue.CATALOGUE)
    assert entries[0]["revision"] == catalogue.CATALOGUE["tiny-sd"].revision
    assert entries[0]["defaults"]["width"] == 512
