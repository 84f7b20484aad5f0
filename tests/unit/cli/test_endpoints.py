"""Saving, listing, choosing and forgetting endpoints (cli/configure.py, cli/endpoints.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lambdiff import config
from lambdiff.auth.credentials import Keys
from lambdiff.cli import cli
from lambdiff.config import Deployment
from lambdiff.errors import AccessDenied, ConfigurationError, CredentialsError, EndpointUnreachable, InvalidRequest
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.stub_engine import StubEngine

DEAD = "http://127.0.0.1:9/"


def run(*arguments: str) -> Result:
    """Run a command; an exception is kept in the result."""
    return CliRunner().invoke(cli, arguments, standalone_mode=False)


def document(*arguments: str) -> Any:
    """Return the JSON document that a successful command prints."""
    result = run(*arguments, "--json")
    assert result.exception is None, result.output
    return json.loads(result.stdout)


def save(*names: str) -> None:
    """Save deployments; the last one becomes the default."""
    for name in names:
        config.save(Deployment(name=name, url=f"https://{name}.lambda-url.us-east-1.on.aws/", region="us-east-1"))


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An endpoint that accepts the key pair in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "caller-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with FunctionUrlServer(App(StubEngine), Keys("AKIDEXAMPLE", "caller-secret"), "us-east-1") as function:
        yield function.url


def test_configure_asks_the_endpoint_first(url: str) -> None:
    """An endpoint that answers is saved, and its model is named."""
    result = run("configure", "--url", url, "--name", "mine")
    assert "The endpoint answers: stub@r1" in result.stderr
    assert config.load().deployments["mine"].url == url


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another-secret-key"}, AccessDenied),
        ({"AWS_REGION": "eu-west-1"}, AccessDenied),
        ({"AWS_ACCESS_KEY_ID": ""}, CredentialsError),
    ],
)
def test_an_endpoint_that_refuses_is_not_saved(
    url: str, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], error: type[Exception]
) -> None:
    """The error is that of the request, and the fix says how to save the endpoint all the same."""
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    failed = run("configure", "--url", url).exception
    assert isinstance(failed, error)
    assert "--no-check" in failed.fix
    assert config.load().deployments == {}
    assert run("configure", "--url", url, "--no-check").exception is None
    assert config.load().default == "default"


def test_an_endpoint_that_does_not_answer_is_not_saved(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default stays what it was."""
    monkeypatch.setattr("lambdiff.client.function_url.ATTEMPTS", 1)
    save("prod")
    assert isinstance(run("configure", "--url", DEAD, "--name", "dead").exception, EndpointUnreachable)
    assert list(config.load().deployments) == ["prod"]


@pytest.mark.parametrize("name", ["Prod", "a_b", "../x", "", "x" * 31, "https://user:hunter2@host/"])
@pytest.mark.parametrize("source", ["--url", "--stack"])
def test_a_bad_name_is_refused_before_anything_is_asked(name: str, source: str) -> None:
    """There are no credentials here, but the name is refused first; a password in it is not repeated."""
    failed = run("configure", source, DEAD, "--name", name).exception
    assert isinstance(failed, InvalidRequest)
    assert "not a valid deployment name" in failed.message
    assert "hunter2" not in failed.message


def test_the_list_marks_the_default() -> None:
    """Each endpoint is on a line of its own, and the default one has an asterisk."""
    save("old", "prod")
    assert run("endpoints", "list").stdout.splitlines() == [
        "  old   https://old.lambda-url.us-east-1.on.aws/  (us-east-1, auth: caller)",
        "* prod  https://prod.lambda-url.us-east-1.on.aws/  (us-east-1, auth: caller)",
    ]
    assert document("endpoints", "list")["default"] == "prod"
    assert [each["name"] for each in document("endpoints", "list")["endpoints"]] == ["old", "prod"]


def test_an_empty_list_says_how_to_save_one() -> None:
    """The list is empty on stdout; the advice is on stderr."""
    result = run("endpoints", "list")
    assert (result.stdout, result.return_value) == ("", None)
    assert "lambdiff deploy" in result.stderr
    assert document("endpoints", "list") == {"default": None, "endpoints": []}


def test_another_endpoint_becomes_the_default() -> None:
    """`use` changes the default only; an unknown name changes nothing and lists the known ones."""
    save("old", "prod")
    assert "The default endpoint is old." in run("endpoints", "use", "old").stderr
    assert config.load().default == "old"
    failed = run("endpoints", "use", "odl").exception
    assert isinstance(failed, ConfigurationError)
    assert "old, prod" in failed.fix
    assert config.load().default == "old"


def test_endpoints_are_forgotten_all_or_none() -> None:
    """An unknown name keeps the others; if the default is forgotten, the new one is named."""
    save("a", "b", "c")
    assert isinstance(run("endpoints", "forget", "a", "x").exception, ConfigurationError)
    assert list(config.load().deployments) == ["a", "b", "c"]
    assert "The default endpoint is b." in run("endpoints", "forget", "c", "a").stderr
    assert "The default endpoint is this machine." in run("endpoints", "forget", "b").stderr
    assert config.load().default is None


@pytest.mark.parametrize("arguments", [("list", "a"), ("use",), ("use", "a", "b"), ("forget",), ("rename", "a")])
def test_wrong_usage_changes_nothing(arguments: tuple[str, ...]) -> None:
    """The number of names is checked for each action."""
    save("a", "b")
    result = CliRunner().invoke(cli, ["endpoints", *arguments])
    assert result.exit_code == 2
    assert list(config.load().deployments) == ["a", "b"]


def test_a_variable_that_overrides_the_default_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default may not be what commands use."""
    save("a", "b")
    monkeypatch.setenv("LAMBDIFF_DEPLOYMENT", "a\r")
    assert "LAMBDIFF_DEPLOYMENT is set, so commands use 'a'." in run("endpoints", "list").stderr
    monkeypatch.setenv("LAMBDIFF_URL", "https://user:hunter2@host/")
    assert "LAMBDIFF_URL is set, so commands call https://***@host/." in run("endpoints", "use", "a").stderr


def test_a_password_in_the_file_is_not_shown() -> None:
    """Somebody may have added it by hand."""
    config.save(Deployment(name="a", url="https://user:hunter2@host/", region="us-east-1"))
    assert "hunter2" not in run("endpoints", "list").output
    assert document("endpoints", "list")["endpoints"][0]["url"] == "https://***@host/"
    failed = run("generate", "a cat").exception
    assert isinstance(failed, ConfigurationError)
    assert "hunter2" not in str(failed)
