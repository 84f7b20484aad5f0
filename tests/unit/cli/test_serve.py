"""What `lambdiff serve` takes from the environment (cli/serve.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lambdiff.auth.region import find_region
from lambdiff.cli import cli
from lambdiff.errors import ConfigurationError


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_REGION", "us east"),
        ("LAMBDIFF_REGION", "us-east-1\x1b"),
        ("AWS_PROFILE", "ghost"),
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "caller-secret"),
    ],
)
def test_a_bad_variable_is_refused_before_the_server_starts(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The same rules hold as for the client, which has to sign for the same region with the same keys."""
    monkeypatch.setenv(variable, value)
    error = CliRunner().invoke(cli, ["serve", "--port", "0"], standalone_mode=False).exception
    assert isinstance(error, ConfigurationError)
    assert variable in error.message


def test_keys_that_no_client_can_send_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line break at the end of a key is not part of it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "caller-secret\n")
    error = CliRunner().invoke(cli, ["serve", "--port", "0"], standalone_mode=False).exception
    assert isinstance(error, ConfigurationError)
    assert error.message.startswith("AWS_SECRET_ACCESS_KEY contains")


def test_the_region_of_the_profile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` and the client choose the region by one rule."""
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n")
    assert find_region() is None
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert str(find_region()) == "eu-west-1 (profile default)"
