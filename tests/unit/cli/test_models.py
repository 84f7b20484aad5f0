"""The command `lambdiff models` (cli/models.py)."""

from __future__ import annotations

import json
import sys

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
        if entry.lora:
            assert entry.lora.hub_id in output


def test_json_has_revisions_and_defaults():
    """The JSON list contains each model's full revision and defaults."""
    entries = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert [entry["name"] for entry in entries] == list(catalogue.CATALOGUE)
    assert entries[0]["revision"] == catalogue.CATALOGUE["tiny-sd"].revision
    assert entries[0]["defaults"]["width"] == 512


def test_costs_are_estimated_for_this_machine():
    """Operations are the catalogue's, and the seconds of all models have the same rate."""
    entries = json.loads(CliRunner().invoke(command, ["--json"]).output)
    rates = [cost["tflop"] / cost["seconds"] for entry in entries for cost in entry["costs"]]
    assert min(rates) > 0
    assert max(rates) / min(rates) < 1.05
    assert [cost["decoder"] for cost in entries[0]["costs"]] == ["full", "tiny"]
    assert "s here" in CliRunner().invoke(command, []).output


def test_without_openvino_there_are_no_seconds(monkeypatch):
    """The list needs no library that runs models."""
    monkeypatch.setitem(sys.modules, "lambdiff.engine.core", None)
    output = CliRunner().invoke(command, []).output
    assert "TFLOP" in output
    assert "s here" not in output
