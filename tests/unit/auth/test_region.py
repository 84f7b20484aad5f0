"""The order in which sources determine the region (auth/region.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lambdiff.auth.region import choose_region, region_of_url
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import ConfigurationError, CredentialsError

URL = "https://abc123.lambda-url.eu-west-1.on.aws/"
LOOPBACK = "http://127.0.0.1:9000/"


@pytest.fixture
def aws_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An AWS configuration file with two profiles."""
    path = tmp_path / "aws-config"
    path.write_text("[default]\nregion = ap-south-1\n[profile work]\nregion = ca-central-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    return path


def test_each_source_beats_the_next(aws_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is argument, URL, LAMBDIFF_REGION, deployment, AWS_REGION, AWS_DEFAULT_REGION, profile."""
    saved = Deployment(name="prod", url=LOOPBACK, region="eu-north-1")
    monkeypatch.setenv("LAMBDIFF_REGION", "us-east-2")
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-1")
    assert str(choose_region("us-west-2", url=URL, deployment=saved)) == "us-west-2 (`region=`)"
    assert str(choose_region(url=URL, deployment=saved)) == "eu-west-1 (from the URL)"
    assert str(choose_region(url=LOOPBACK, deployment=saved)) == "us-east-2 (LAMBDIFF_REGION)"
    monkeypatch.delenv("LAMBDIFF_REGION")
    assert str(choose_region(url=LOOPBACK, deployment=saved)) == "eu-north-1 (deployment prod)"
    assert str(choose_region(url=LOOPBACK)) == "sa-east-1 (AWS_REGION)"
    monkeypatch.delenv("AWS_REGION")
    assert str(choose_region()) == "us-west-1 (AWS_DEFAULT_REGION)"
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert str(choose_region()) == "ap-south-1 (profile default)"
    assert str(choose_region(profile=Sourced("work", "`profile=`"))) == "ca-central-1 (profile work)"


def test_a_deployments_url_beats_its_saved_region() -> None:
    """Without `url=`, the region in the deployment's Function URL takes precedence over the saved one."""
    saved = Deployment(name="prod", url=URL, region="eu-north-1")
    assert str(choose_region(deployment=saved)) == "eu-west-1 (from the URL)"


def test_the_profile_in_the_environment_is_named_as_the_source(
    aws_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AWS_PROFILE set, the source is that profile and not `default`."""
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert str(choose_region()) == "ca-central-1 (profile work)"


def test_no_region_says_how_to_set_one() -> None:
    """If no source states the region, the fix names the parameter and the environment variable."""
    with pytest.raises(ConfigurationError, match="region is unknown") as caught:
        choose_region(url=LOOPBACK)
    assert "`region=`" in caught.value.fix
    assert "AWS_REGION" in caught.value.fix


def test_an_unknown_profile_is_a_credentials_error(aws_config: Path) -> None:
    """A profile that does not exist is reported as such, not as a missing region."""
    with pytest.raises(CredentialsError, match="no-such-profile"):
        choose_region(profile=Sourced("no-such-profile", "`profile=`"))


@pytest.mark.parametrize(
    "url",
    ["https://example.com/", "https://abc.lambda-url.eu-west-1.on.aws.example.com/", LOOPBACK, "http://[::1", "abc"],
)
def test_other_hosts_state_no_region(url: str) -> None:
    """The region is taken only from the host of a Function URL."""
    assert region_of_url(url) is None


def test_boto3_is_imported_for_profiles_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region from an argument, a URL or the environment needs no boto3."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    assert choose_region().value == "sa-east-1"
