"""The command `lambdiff models` (cli/models.py)."""

from __future__ import annotations

import json

from click.testing import CliRunner

from lambdiff.bake import catalogue
from lambdiff.cli.models import models as command


def test_every_model_is_listed():
    """The list names each model with its hub id and license."""
    output = CliRunner().invoke(command, []).output
    for entry in catalogue.CATALOGUE.values():
        assert entry.name in output
        assert entry.hub_id in output
        assert entry.license in output


def test_json_has_revisions_and_defaults():
    """The JSON list contains each model's full revision and defaults."""
    entries = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert [entry["name"] for entry in entries] == list(catalogue.CATALOGUE)
    assert entries[0]["revision"] == catalogue.CATALOGUE["tiny-sd"].revision
    assert entries[0]["defaults"]["width"] == 512
