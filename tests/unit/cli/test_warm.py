"""`lambdiff warm`: what it prints."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from lambdiff.cli import cli
from lambdiff.client.client import Client
from lambdiff.errors import ConfigurationError, EndpointFailed
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport


def test_without_a_deployment_nothing_is_warmed() -> None:
    """Without a deployment, the error says how to get one, and its exit code is that of a configuration error."""
    error = CliRunner().invoke(cli, ["warm"], standalone_mode=False).exception
    assert isinstance(error, ConfigurationError)
    assert error.exit_code == 3
    assert error.message == "No deployment is configured, so there are no environments to warm."
    assert error.fix == "Create one with `lambdiff deploy`, or choose an endpoint with --url."


def test_the_result_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage counts environments, and the last line requests and models that were loaded."""
    monkeypatch.setattr("lambdiff.client.client.Client", lambda **_: Client(transport=StubTransport(StubEngine())))
    ran = CliRunner().invoke(cli, ["warm"], standalone_mode=False)
    assert ran.return_value == 0
    assert "Warming 1 environment\n" in ran.stderr
    assert "1 of 1 requests succeeded; 1 loaded the model.\n" in ran.stderr


def test_a_failure_is_printed_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each distinct failure is printed once, with its fix in terms of flags, and determines the exit code."""
    error = EndpointFailed("The function has too little memory.", fix="Choose another endpoint with `url=`.")
    transport = StubTransport(StubEngine(error=error))
    monkeypatch.setattr("lambdiff.client.client.Client", lambda **_: Client(transport=transport))
    ran = CliRunner().invoke(cli, ["warm", "-n", "3"], standalone_mode=False)
    assert ran.return_value == 5
    assert "Warming 3 environments\n" in ran.stderr
    assert ran.stderr.endswith("Error: The function has too little memory.\n  Choose another endpoint with --url.\n")
    assert ran.stderr.count("Error") == 1
