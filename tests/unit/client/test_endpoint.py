"""Resolving the endpoint, its region and its credentials, with their sources (client/endpoint.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambdiff import config
from lambdiff.auth.credentials import CallerCredentials, GivenCredentials, Keys, RoleCredentials, SecretCredentials
from lambdiff.client import endpoint
from lambdiff.config import Deployment
from lambdiff.errors import ConfigurationError, InvalidRequest

URL = "https://abc123.lambda-url.eu-west-1.on.aws/"


def save(**more: object) -> None:
    """Save a deployment called prod."""
    config.save(Deployment(name="prod", url=URL, region="eu-west-1", timeout_s=300, **more))


def test_without_configuration_images_are_generated_on_this_machine() -> None:
    """Without an argument, a variable or a saved deployment, the endpoint is this machine, and the reason is given."""
    chosen = endpoint.resolve()
    assert chosen.local
    assert chosen.describe() == {"endpoint": "this machine (no deployment is configured)"}


def test_an_argument_beats_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument takes precedence over the environment, and that over saved deployments; each names its source."""
    save()
    assert str(endpoint.resolve()) == f"{URL} (deployment prod)"
    monkeypatch.setenv("LAMBDIFF_URL", "https://env.lambda-url.us-east-2.on.aws")
    assert str(endpoint.resolve()) == "https://env.lambda-url.us-east-2.on.aws/ (LAMBDIFF_URL)"
    assert str(endpoint.resolve(deployment="prod")) == f"{URL} (deployment prod)"
    assert str(endpoint.resolve(url="https://arg.lambda-url.us-west-1.on.aws")).endswith("(`url=`)")
    assert str(endpoint.resolve(local=True)) == "this machine (`local=True`)"


def test_the_region_is_chosen_by_choose_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """The region is that of `choose_region`, whose error for a loopback URL says how to set it."""
    save()
    assert endpoint.resolve().describe()["region"] == "eu-west-1 (from the URL)"
    assert str(endpoint.resolve(url=URL, region="us-west-2").region) == "us-west-2 (`region=`)"
    with pytest.raises(ConfigurationError, match="region is unknown") as caught:
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
    """A deployment uses its key pair, its role or the caller's credentials; `credentials=` overrides them all."""
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
    """The message names the source of an invalid URL, and the fix shows a valid one."""
    with pytest.raises(ConfigurationError, match="`url=`") as caught:
        endpoint.resolve(url=url, region="us-east-1")
    assert "lambda-url" in caught.value.fix


def test_http_is_for_loopback_only() -> None:
    """A plain HTTP URL is accepted for loopback only, so that prompts are never sent unencrypted over a network."""
    with pytest.raises(ConfigurationError, match="not encrypted"):
        endpoint.resolve(url="http://example.com/", region="us-east-1")
    assert endpoint.resolve(url="http://[::1]:9000", region="us-east-1").url.value == "http://[::1]:9000/"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"local": True, "url": URL}, "`local=True` cannot be combined"),
        ({"local": True, "deployment": "prod"}, "`local=True` cannot be combined"),
        ({"url": URL, "deployment": "prod"}, "A URL and a deployment"),
        ({"model_dir": "x", "url": URL}, "`model_dir=` cannot be combined"),
        ({"model_dir": "x", "deployment": "prod"}, "`model_dir=` cannot be combined"),
        ({"local": True, "profile": "ghost"}, "on this machine, where `profile=` would have no effect"),
        ({"model_dir": "x", "region": "us-east-1"}, "`region=` would have no effect"),
        ({"profile": "ghost", "region": "us-east-1"}, "`region=` and `profile=` would have no effect"),
        ({"local": True, "timeout_s": 5}, "`timeout_s=` would have no effect"),
        ({"local": True, "credentials": Keys("a", "b")}, "`credentials=` would have no effect"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, object], words: str) -> None:
    """Arguments that contradict each other are an error, not a guess."""
    with pytest.raises(ConfigurationError, match=words):
        endpoint.resolve(**arguments)


@pytest.mark.parametrize("name", ["url", "region", "deployment", "profile", "model_dir"])
@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_argument_is_refused(name: str, value: str) -> None:
    """A variable that was not set, as in `url=os.environ.get("URL", "")`, must not send prompts elsewhere."""
    arguments = {"url": URL, name: value} if name in ("region", "profile") else {name: value}
    with pytest.raises(ConfigurationError, match=f"^`{name}=` is empty"):
        endpoint.resolve(**arguments)


@pytest.mark.parametrize("value", [5, b"eu-west-1", Path("eu-west-1"), ["eu-west-1"]])
@pytest.mark.parametrize("name", ["url", "region", "deployment", "profile"])
def test_arguments_that_are_no_text_are_refused(name: str, value: Any) -> None:
    """The parameter and the type are named."""
    arguments = {"url": URL, name: value} if name in ("region", "profile") else {name: value}
    with pytest.raises(ConfigurationError, match=f"^`{name}=` must be text, not {type(value).__name__}"):
        endpoint.resolve(**arguments)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", True, 1e9])
def test_an_impossible_time_limit_is_refused(seconds: Any) -> None:
    """It is not ignored, and no error of a socket later."""
    with pytest.raises(InvalidRequest, match=r"`timeout_s=` must be a number in 0\.\.86400, not "):
        endpoint.resolve(url=URL, timeout_s=seconds)
    assert endpoint.resolve(url=URL, timeout_s=np.float32(0.5)).timeout_s == 0.5


def test_an_image_has_a_price_if_the_memory_is_known() -> None:
    """The price follows from duration and memory; this machine and unsaved URLs have no price."""
    save(memory_mb=10_240, architecture="x86_64")
    assert endpoint.resolve().price(10) == pytest.approx(10 * 10 * 0.0000166667 + 0.20e-6)
    assert endpoint.resolve(url=URL).price(10) is None
    assert endpoint.resolve(local=True).price(10) is None


def test_the_environments_identity_beats_the_saved_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile saved with a deployment applies unless an argument or the environment names another identity."""
    (tmp_path / "config").write_text("[profile work]\n[profile mine]\n[profile other]\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    save(profile="work")
    assert endpoint.resolve().credentials.source == "profile work"
    assert endpoint.resolve(profile="mine").credentials.source == "profile mine"
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert endpoint.resolve().credentials.source == "your AWS credentials"


ROLE = "arn:aws:iam::123456789012:role/team/invoker"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:invoker-AbCdEf"


@pytest.mark.parametrize(
    ("more", "auth"),
    [
        ({}, "caller"),
        ({"role_arn": ROLE}, "role"),
        ({"secret_arn": SECRET}, "key-pair"),
    ],
)
def test_a_url_becomes_a_deployment(more: dict[str, str], auth: str) -> None:
    """The deployment of a URL has the URL's region, and the kind of credentials that was passed."""
    deployment = endpoint.from_url(URL.rstrip("/"), name="prod", profile="work", **more)
    assert deployment == Deployment(name="prod", url=URL, region="eu-west-1", profile="work", auth=auth, **more)
    assert endpoint.from_url(URL, name="prod", region="us-west-2").region == "us-west-2"


@pytest.mark.parametrize(
    ("url", "name", "error"),
    [("http://example.org", "prod", ConfigurationError), (URL, "Not Valid", InvalidRequest)],
)
def test_an_invalid_url_or_name_is_not_a_deployment(url: str, name: str, error: type[Exception]) -> None:
    """`from_url` checks the URL as `resolve` does, and the name as `config.save` does."""
    with pytest.raises(error):
        endpoint.from_url(url, name=name)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"secret_arn": "invoker"},
            "`secret_arn=` must look like arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
        ),
        ({"secret_arn": ROLE}, "`secret_arn=` must look like"),
        ({"secret_arn": SECRET.replace("eu-west-1", "us-east-1")}, "is in us-east-1, but the endpoint is in eu-west-1"),
        ({"secret_arn": SECRET.replace("arn:aws", "arn:aws-cn")}, "must look like arn:aws:secretsmanager"),
        (
            {"role_arn": "arn:aws:iam::123456789012:user/ann"},
            "`role_arn=` must look like arn:aws:iam::123456789012:role/",
        ),
        ({"role_arn": "arn:aws:sts::123456789012:assumed-role/a/b"}, "`role_arn=` must look like"),
        ({"role_arn": f"{ROLE}\n"}, "`role_arn=` must look like"),
        ({"role_arn": ROLE, "secret_arn": SECRET}, "`role_arn=` cannot be combined with `secret_arn=`"),
        ({"role_arn": "a", "secret_arn": "b"}, "`secret_arn=` must look like"),
        ({"region": "mars"}, "no AWS region 'mars'"),
    ],
)
def test_arns_and_regions_are_checked_offline(more: dict[str, str], words: str) -> None:
    """What cannot be an ARN of the right kind, partition and region is refused before anything is saved."""
    with pytest.raises(InvalidRequest) as caught:
        endpoint.from_url(URL, name="prod", **more)
    assert words in caught.value.message
