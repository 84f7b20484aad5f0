"""resolve.py: which endpoint, which region, which signer, and why."""

from __future__ import annotations

import pytest

from lambdiff import config
from lambdiff.auth.credentials import CallerKeys, GivenKeys, Keys, RoleKeys, SecretKeys
from lambdiff.client import endpoint
from lambdiff.config import Deployment
from lambdiff.errors import ConfigurationError

URL = "https://abc123.lambda-url.eu-west-1.on.aws/"


def save(**more: object) -> None:
    """Save a deployment called prod."""
    config.save(Deployment(name="prod", url=URL, region="eu-west-1", timeout_s=300, **more))


def test_nothing_configured_is_this_machine() -> None:
    """With no flag, no environment and no file this machine draws, and the reason is told."""
    target = endpoint.resolve()
    assert target.local
    assert target.describe() == {"endpoint": "this machine (no deployment is configured)"}


def test_a_url_beats_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of precedence is flag, environment, file."""
    save()
    assert str(endpoint.resolve()) == f"{URL} (deployment prod)"
    monkeypatch.setenv("LAMBDIFF_URL", "https://env.lambda-url.us-east-2.on.aws")
    assert str(endpoint.resolve()) == "https://env.lambda-url.us-east-2.on.aws/ (LAMBDIFF_URL)"
    assert str(endpoint.resolve(deployment="prod")) == f"{URL} (deployment prod)"
    assert str(endpoint.resolve(url="https://flag.lambda-url.us-west-1.on.aws")).endswith("(--url)")


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({}, CallerKeys),
        ({"auth": "key-pair", "secret_arn": "arn:aws:secretsmanager:eu-west-1:1:secret:x"}, SecretKeys),
        ({"auth": "role", "role_arn": "arn:aws:iam::1:role/invoker"}, RoleKeys),
    ],
)
def test_the_deployment_decides_who_signs(more: dict[str, str], kind: type) -> None:
    """Key pair, role or the caller, as the deployment was made; given credentials beat them all."""
    save(**more)
    assert isinstance(endpoint.resolve().signer, kind)
    assert isinstance(endpoint.resolve(credentials=Keys("a", "b")).signer, GivenKeys)
    assert endpoint.resolve().timeout_s == 300


@pytest.mark.parametrize(
    "url",
    ["abc", "ftp://host/", "https://", "https://host/path", "https://host/?q=1", "https://user:pw@host/", "http://[::1",
     "https://host:99999/"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    """A bad URL is named with its source, and the fix shows a good one."""
    with pytest.raises(ConfigurationError, match="--url") as caught:
        endpoint.resolve(url=url, region="us-east-1")
    assert "lambda-url" in caught.value.fix


def test_http_is_for_loopback_only() -> None:
    """Prompts do not travel in the clear."""
    with pytest.raises(ConfigurationError, match="not encrypted"):
        endpoint.resolve(url="http://example.com/", region="us-east-1")
    assert endpoint.resolve(url="http://[::1]:9000", region="us-east-1").url.value == "http://[::1]:9000/"


@pytest.mark.parametrize(
    "arguments",
    [
        {"local": True, "url": URL},
        {"local": True, "deployment": "prod"},
        {"url": URL, "deployment": "prod"},
        {"model_dir": "x"},
    ],
)
def test_contradictions_are_refused(arguments: dict[str, object]) -> None:
    """Two answers to the same question are an error, not a guess."""
    with pytest.raises(ConfigurationError):
        endpoint.resolve(**arguments)


def test_a_picture_has_a_price_where_the_memory_is_known() -> None:
    """Ten seconds at 10,240 MB are $0.00167 by the table; of this machine and of foreign URLs nothing is known."""
    save(memory_mb=10_240, architecture="x86_64")
    assert endpoint.resolve().price(10) == pytest.approx(10 * 10 * 0.0000166667 + 0.20e-6)
    assert endpoint.resolve(url=URL).price(10) is None
    assert endpoint.resolve(local=True).price(10) is None


def test_the_environments_identity_beats_the_saved_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that was saved with a deployment is used where neither flag nor environment names another."""
    save(profile="work")
    assert endpoint.resolve().signer.source == "profile work"
    assert endpoint.resolve(profile="mine").signer.source == "profile mine"
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert endpoint.resolve().signer.source == "your AWS credentials"
