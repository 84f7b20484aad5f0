"""endpoint.py: which endpoint, which region, which credentials, and why."""

from __future__ import annotations

import pytest

from lambdiff import config
from lambdiff.auth.credentials import CallerCredentials, GivenCredentials, Keys, RoleCredentials, SecretCredentials
from lambdiff.client import endpoint
from lambdiff.config import Deployment
from lambdiff.errors import ConfigurationError

URL = "https://abc123.lambda-url.eu-west-1.on.aws/"


def save(**more: object) -> None:
    """Save a deployment called prod."""
    config.save(Deployment(name="prod", url=URL, region="eu-west-1", timeout_s=300, **more))


def test_without_configuration_this_machine_generates() -> None:
    """No argument, no environment and no file mean this machine, and the reason is given."""
    chosen = endpoint.resolve()
    assert chosen.local
    assert chosen.describe() == {"endpoint": "this machine (no deployment is configured)"}


def test_an_argument_beats_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of precedence is argument, environment, file; each choice names its source."""
    save()
    assert str(endpoint.resolve()) == f"{URL} (deployment prod)"
    monkeypatch.setenv("LAMBDIFF_URL", "https://env.lambda-url.us-east-2.on.aws")
    assert str(endpoint.resolve()) == "https://env.lambda-url.us-east-2.on.aws/ (LAMBDIFF_URL)"
    assert str(endpoint.resolve(deployment="prod")) == f"{URL} (deployment prod)"
    assert str(endpoint.resolve(url="https://arg.lambda-url.us-west-1.on.aws")).endswith("(`url=`)")
    assert str(endpoint.resolve(local=True)) == "this machine (`local=True`)"


def test_the_region_follows_the_one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """`choose_region` decides; for a loopback URL its error says how to set the region."""
    save()
    assert endpoint.resolve().describe()["region"] == "eu-west-1 (from the URL)"
    assert str(endpoint.resolve(url=URL, region="us-west-2").region) == "us-west-2 (`region=`)"
    with pytest.raises(ConfigurationError, match="region is not known") as caught:
        endpoint.resolve(url="http://127.0.0.1:9000")
    assert "`region=`" in caught.value.fix
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    assert str(endpoint.resolve(url="http://127.0.0.1:9000").region) == "sa-east-1 (AWS_REGION)"


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({}, CallerCredentials),
        ({"auth": "key-pair", "secret_arn": "arn:aws:secretsmanager:eu-west-1:1:secret:x"}, SecretCredentials),
        ({"auth": "role", "role_arn": "arn:aws:iam::1:role/invoker"}, RoleCredentials),
    ],
)
def test_the_deployment_decides_the_credentials(more: dict[str, str], kind: type) -> None:
    """Key pair, role or the caller's own, as the deployment was made; credentials given as argument beat them all."""
    save(**more)
    assert isinstance(endpoint.resolve().credentials, kind)
    assert isinstance(endpoint.resolve(credentials=Keys("a", "b")).credentials, GivenCredentials)
    assert endpoint.resolve().timeout_s == 300


@pytest.mark.parametrize(
    "url",
    ["abc", "ftp://host/", "https://", "https://host/path", "https://host/?q=1", "https://user:pw@host/", "http://[::1",
     "https://host:99999/"],
)  # fmt: skip
def test_invalid_urls_are_refused(url: str) -> None:
    """The message names the source of a bad URL, and the fix shows a good one."""
    with pytest.raises(ConfigurationError, match="`url=`") as caught:
        endpoint.resolve(url=url, region="us-east-1")
    assert "lambda-url" in caught.value.fix


def test_http_is_for_loopback_only() -> None:
    """Prompts are never sent unencrypted over a network."""
    with pytest.raises(ConfigurationError, match="not encrypted"):
        endpoint.resolve(url="http://example.com/", region="us-east-1")
    assert endpoint.resolve(url="http://[::1]:9000", region="us-east-1").url.value == "http://[::1]:9000/"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"local": True, "url": URL}, "`local=True` cannot be combined"),
        ({"local": True, "deployment": "prod"}, "`local=True` cannot be combined"),
        ({"url": URL, "deployment": "prod"}, "A URL and a deployment"),
        ({"model_dir": "x"}, "`model_dir=` only works together with"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, object], words: str) -> None:
    """Two answers to the same question are an error, not a guess."""
    with pytest.raises(ConfigurationError, match=words):
        endpoint.resolve(**arguments)


def test_an_image_has_a_price_if_the_memory_is_known() -> None:
    """Ten seconds at 10,240 MB are $0.00167 by the table; this machine and unsaved URLs have no price."""
    save(memory_mb=10_240, architecture="x86_64")
    assert endpoint.resolve().price(10) == pytest.approx(10 * 10 * 0.0000166667 + 0.20e-6)
    assert endpoint.resolve(url=URL).price(10) is None
    assert endpoint.resolve(local=True).price(10) is None


def test_the_environments_identity_beats_the_saved_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile saved with a deployment applies unless an argument or the environment names another identity."""
    save(profile="work")
    assert endpoint.resolve().credentials.source == "profile work"
    assert endpoint.resolve(profile="mine").credentials.source == "profile mine"
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert endpoint.resolve().credentials.source == "your AWS credentials"
