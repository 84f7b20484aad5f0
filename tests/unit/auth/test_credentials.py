"""credentials.py: four sources of keys, against moto's AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.credentials import Credentials
from moto import mock_aws

from lambdiff.auth import credentials
from lambdiff.auth.credentials import CallerKeys, GivenKeys, Keys, RoleKeys, SecretKeys
from lambdiff.errors import CredentialsError

PAIR = {"AWS_ACCESS_KEY_ID": "AKIAINVOKER", "AWS_SECRET_ACCESS_KEY": "invoker-secret"}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account of moto's, with a caller."""
    with mock_aws():
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACALLER")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "caller-secret")
        yield


def secret(value: object) -> str:
    """Make a secret and return its ARN."""
    client = boto3.client("secretsmanager", "eu-west-1")
    return client.create_secret(Name="lambdiff-invoker", SecretString=json.dumps(value))["ARN"]


def test_keys_do_not_show_their_secret() -> None:
    """Neither repr nor str of a key pair holds the secret or the token."""
    keys = Keys("AKID", "top-secret", "token-value")
    assert "top-secret" not in f"{keys!r} {keys}"
    assert "token-value" not in f"{keys!r} {keys}"


@pytest.mark.parametrize("given", [Keys("AKID", "s", "t"), ("AKID", "s", "t"), Credentials("AKID", "s", "t")])
def test_given_keys_of_every_kind(given: object) -> None:
    """A tuple, Keys and botocore's credentials sign alike."""
    frozen = GivenKeys(given).get()
    assert (frozen.access_key, frozen.secret_key, frozen.token) == ("AKID", "s", "t")


def test_a_boto3_session_is_credentials_too(aws: None) -> None:
    """A session's own identity is taken."""
    assert GivenKeys(boto3.Session()).get().access_key == "AKIACALLER"


def test_something_else_is_refused_in_words() -> None:
    """A wrong type is a configuration error, not a traceback later."""
    with pytest.raises(CredentialsError, match="no usable kind"):
        GivenKeys(42)


def test_the_caller_is_found_the_usual_way(aws: None) -> None:
    """The environment's keys are the caller's, and the source says so."""
    signer = CallerKeys()
    assert signer.get().access_key == "AKIACALLER"
    assert signer.source == "your AWS credentials (env)"


def test_no_caller_says_how_to_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the error offers both a login and --local."""
    with pytest.raises(CredentialsError, match="no AWS credentials") as caught:
        CallerKeys().get()
    assert "--local" in caught.value.fix


def test_an_unknown_profile_is_named() -> None:
    """A profile that does not exist is told apart from missing credentials."""
    with pytest.raises(CredentialsError, match="nobody"):
        credentials.session("nobody")


def test_the_secret_is_read_once_and_again_after_a_refresh(aws: None) -> None:
    """A rotated pair is picked up by refresh, and only then."""
    arn = secret(PAIR)
    signer = SecretKeys(arn, "eu-west-1")
    assert signer.get().access_key == "AKIAINVOKER"
    rotated = {**PAIR, "AWS_ACCESS_KEY_ID": "AKIAROTATED"}
    boto3.client("secretsmanager", "eu-west-1").put_secret_value(SecretId=arn, SecretString=json.dumps(rotated))
    assert signer.get().access_key == "AKIAINVOKER"
    assert signer.refresh()
    assert signer.get().access_key == "AKIAROTATED"


@pytest.mark.parametrize("value", [{}, {"AWS_ACCESS_KEY_ID": "a"}, [], "text"])
def test_a_secret_of_another_form_is_refused(aws: None, value: object) -> None:
    """Whatever else a secret holds, its content is not in the message."""
    with pytest.raises(CredentialsError, match="does not hold AWS_ACCESS_KEY_ID"):
        SecretKeys(secret(value), "eu-west-1").get()


def test_a_missing_secret_suggests_the_region(aws: None) -> None:
    """A secret that is not there points to `lambdiff status`."""
    with pytest.raises(CredentialsError, match="ResourceNotFoundException") as caught:
        SecretKeys("arn:aws:secretsmanager:eu-west-1:123456789012:secret:gone", "eu-west-1").get()
    assert "lambdiff status" in caught.value.fix


def test_a_role_is_assumed(aws: None) -> None:
    """The role's keys are temporary and carry a token."""
    signer = RoleKeys("arn:aws:iam::123456789012:role/lambdiff-invoker", "eu-west-1")
    frozen = signer.get()
    assert frozen.token
    assert frozen.access_key != "AKIACALLER"
    assert signer.source == "role lambdiff-invoker"


def test_no_signer_shows_a_secret(aws: None) -> None:
    """repr and str of every signer are free of keys."""
    signer = SecretKeys(secret(PAIR), "eu-west-1")
    signer.get()
    shown = f"{signer!r} {GivenKeys(Keys('A', 'given-secret'))!r} {CallerKeys()!r}"
    assert "invoker-secret" not in shown
    assert "given-secret" not in shown


def test_a_damaged_configuration_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration file that cannot be parsed is named."""
    (tmp_path / "config").write_text("[default\nregion")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(CredentialsError, match="cannot be read"):
        credentials.session()
