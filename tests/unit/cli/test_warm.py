"""`lambdiff warm`: what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lambdiff.cli import cli
from lambdiff.client.client import Client
from lambdiff.errors import EndpointFailed
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport

NOTE = "No deployment is configured: using the built-in model on this machine.\n"


def test_without_a_deployment_a_note_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a deployment, a note on stderr says that this machine is warmed; the stage counts environments."""
    monkeypatch.setenv("LAMBDIFF_HOME", str(tmp_path))
    for name in ("LAMBDIFF_URL", "LAMBDIFF_DEPLOYMENT"):
        monkeypatch.delenv(name, raising=False)
    transport = StubTransport(StubEngine())
    monkeypatch.setattr("lambdiff.local.in_process.InProcessTransport", lambda _: transport)
    ran = CliRunner().invoke(cli, ["warm"], standalone_mode=False)
    assert ran.return_value == 0
    assert ran.stderr.startswith(NOTE)
    assert "Warming 1 environment\n" in ran.stderr
    assert "1 of 1 requests succeeded; 1 loaded the model.\n" in ran.stderr


def test_a_failure_is_printed_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each distinct failure is printed once, with its fix in terms of flags, and determines the exit code."""
    error = EndpointFailed("The function has too little memory.", fix="Choose another endpoint with `url=`.")
    transport = StubTransport(StubEngine(error=error))
    monkeypatch.setattr("lambdiff.client.client.Client", lambda **_: Client(transport=transport))
    ran = CliRunner().invoke(cli, ["warm", "-n", "3"], standalone_mode=False)
    assert ran.return_value == 5
    assert NOTE not in ran.stderr
    assert "Warming 3 environments\n" in ran.stderr
    assert ran.stderr.endswith("Error: The function has too little memory.\n  Choose another endpoint with --url.\n")
    assert ran.stderr.count("Error") == 1
