"""The four sources of credentials, with moto in place of AWS (auth/credentials.py)."""

from __future__ import annotations

import datetime
import email.utils
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from moto import mock_aws

from lambdiff.auth import credentials as credentials_module
from lambdiff.auth.credentials import (
    KEY_SPREAD_S,
    CallerCredentials,
    GivenCredentials,
    Keys,
    RoleCredentials,
    SecretCredentials,
    parse_key_pair,
)
from lambdiff.errors import CredentialsError

PAIR = {"AWS_ACCESS_KEY_ID": "AKIAINVOKER", "AWS_SECRET_ACCESS_KEY": "invoker-secret"}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A moto account with a caller."""
    with mock_aws():
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACALLER")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "caller-secret")
        yield


def secret(value: object) -> str:
    """Create a secret and return its ARN."""
    client = boto3.client("secretsmanager", "eu-west-1")
    return client.create_secret(Name="lambdiff-invoker", SecretString=json.dumps(value))["ARN"]


def test_keys_do_not_show_their_secret() -> None:
    """Neither `repr` nor `str` of a key pair contains the secret or the token."""
    keys = Keys("AKID", "top-secret", "token-value")
    assert "top-secret" not in f"{keys!r} {keys}"
    assert "token-value" not in f"{keys!r} {keys}"


@pytest.mark.parametrize("given", [Keys("AKID", "s", "t"), ("AKID", "s", "t"), Credentials("AKID", "s", "t")])
def test_credentials_of_every_kind_can_be_given(given: object) -> None:
    """`Keys`, a tuple and botocore credentials are equivalent."""
    frozen = GivenCredentials(given).get()
    assert (frozen.access_key, frozen.secret_key, frozen.token) == ("AKID", "s", "t")


def test_a_boto3_session_can_be_given(aws: None) -> None:
    """The session's own identity is used."""
    assert GivenCredentials(boto3.Session()).get().access_key == "AKIACALLER"


@pytest.mark.parametrize("given", [42, (), ("AKID",), ("AKID", "s", "t", "more"), "AKID"])
def test_another_type_is_refused(given: object) -> None:
    """Credentials of an unsupported type are refused immediately rather than at the first request."""
    with pytest.raises(CredentialsError, match="unsupported type"):
        GivenCredentials(given)


@pytest.mark.parametrize(
    "given", [Keys("", "s"), Keys("AKID", "given-secret\n"), Keys("AKID", "given-secret", "t t"), ("AKID", None)]
)
def test_given_keys_that_cannot_be_sent_are_refused(given: object) -> None:
    """The message names the part, and does not repeat it."""
    with pytest.raises(CredentialsError, match=r"of `credentials=` (is|contains)") as caught:
        GivenCredentials(given).get()
    assert "given-secret" not in str(caught.value)


def test_a_session_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boto3 session is the caller's own, but its exceptions become lambdiff's all the same."""
    with pytest.raises(CredentialsError, match="has no AWS credentials"):
        GivenCredentials(boto3.Session())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    with pytest.raises(CredentialsError, match="missing: AWS_SECRET_ACCESS_KEY"):
        GivenCredentials(boto3.Session())


def test_the_callers_credentials_come_from_the_default_chain(aws: None) -> None:
    """Keys in the environment are used, and `source` says where they come from."""
    source = CallerCredentials()
    assert source.get().access_key == "AKIACALLER"
    assert source.source == "your AWS credentials (env)"


def test_without_credentials_the_fix_offers_two_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials, the fix offers to sign in or to generate on this machine."""
    with pytest.raises(CredentialsError, match="no AWS credentials") as caught:
        CallerCredentials().get()
    assert "aws sso login" in caught.value.fix
    assert "`local=True`" in caught.value.fix


def test_the_secret_is_read_once_and_again_after_a_refresh(aws: None) -> None:
    """A rotated key pair takes effect after `refresh`, not before."""
    arn = secret(PAIR)
    source = SecretCredentials(arn, "eu-west-1")
    assert source.get().access_key == "AKIAINVOKER"
    rotated = {**PAIR, "AWS_ACCESS_KEY_ID": "AKIAROTATED"}
    boto3.client("secretsmanager", "eu-west-1").put_secret_value(SecretId=arn, SecretString=json.dumps(rotated))
    assert source.get().access_key == "AKIAINVOKER"
    assert source.refresh()
    assert source.get().access_key == "AKIAROTATED"


def test_a_key_is_new_for_a_while_after_the_secret_was_written(aws: None) -> None:
    """Its age is that of the secret's version, by AWS's clock: a clock that is wrong by a day makes no difference."""
    arn = secret(PAIR)
    source = SecretCredentials(arn, "eu-west-1")
    assert not source.is_new()
    source.get()
    assert source.is_new()
    written = boto3.client("secretsmanager", "eu-west-1").get_secret_value(SecretId=arn)["CreatedDate"]
    headers = {"date": email.utils.format_datetime(written + datetime.timedelta(seconds=KEY_SPREAD_S + 1))}
    reply: Any = {"CreatedDate": written, "ResponseMetadata": {"HTTPHeaders": headers}}
    assert credentials_module._age(reply) == pytest.approx(KEY_SPREAD_S + 1, abs=1)


@pytest.mark.parametrize("value", [{}, {"AWS_ACCESS_KEY_ID": "a"}, [], "text"])
def test_a_secret_without_a_key_pair_is_refused(aws: None, value: object) -> None:
    """The message says which keys are missing and does not show what the secret contains."""
    with pytest.raises(CredentialsError, match="does not hold AWS_ACCESS_KEY_ID"):
        SecretCredentials(secret(value), "eu-west-1").get()


@pytest.mark.parametrize("text", ["", "top-secret", "[]", "null", '{"AWS_SECRET_ACCESS_KEY": "top-secret"}'])
def test_what_is_not_a_key_pair_is_not_quoted(text: str) -> None:
    """An incomplete pair is refused, and neither the message nor a chained exception contains the secret half."""
    with pytest.raises(ValueError, match="does not hold") as caught:
        parse_key_pair(text)
    assert "top-secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_missing_secret_suggests_the_region(aws: None) -> None:
    """If the secret does not exist, the fix suggests checking the deployment and its region."""
    with pytest.raises(CredentialsError, match="ResourceNotFoundException") as caught:
        SecretCredentials("arn:aws:secretsmanager:eu-west-1:123456789012:secret:gone", "eu-west-1").get()
    assert "lambdiff status" in caught.value.fix


@pytest.mark.parametrize(
    ("code", "of_secret", "of_role"),
    [
        ("AccessDeniedException", "secretsmanager:GetSecretValue", "sts:AssumeRole"),
        ("AccessDenied", "secretsmanager:GetSecretValue", "sts:AssumeRole"),
        ("ExpiredTokenException", "has expired", "has expired"),
        ("InvalidClientTokenId", "not valid", "not valid"),
        ("SignatureDoesNotMatch", "lambdiff doctor", "lambdiff doctor"),
        ("InternalFailure", "lambdiff doctor", "lambdiff doctor"),
    ],
)
def test_the_fix_depends_on_the_error_and_the_source(
    aws: None, monkeypatch: pytest.MonkeyPatch, code: str, of_secret: str, of_role: str
) -> None:
    """A denial names the permission that the source needs; for other errors the fix is the same for all sources."""

    def refuse(*_: object) -> None:
        raise ClientError({"Error": {"Code": code}}, "Operation")

    monkeypatch.setattr(BaseClient, "_make_api_call", refuse)
    sources = {
        SecretCredentials("arn:aws:secretsmanager:eu-west-1:123456789012:secret:x", "eu-west-1"): of_secret,
        RoleCredentials("arn:aws:iam::123456789012:role/lambdiff-invoker", "eu-west-1"): of_role,
    }
    for source, fix in sources.items():
        with pytest.raises(CredentialsError, match=f"cannot be used: {code}") as caught:
            source.get()
        assert fix in caught.value.fix


def test_a_role_is_assumed(aws: None) -> None:
    """The role's credentials are temporary and have a token."""
    source = RoleCredentials("arn:aws:iam::123456789012:role/lambdiff-invoker", "eu-west-1")
    frozen = source.get()
    assert frozen.token
    assert frozen.access_key != "AKIACALLER"
    assert source.source == "role lambdiff-invoker"


def test_no_repr_shows_a_secret(aws: None) -> None:
    """No `repr` of a credential source contains a secret key."""
    source = SecretCredentials(secret(PAIR), "eu-west-1")
    source.get()
    shown = f"{source!r} {GivenCredentials(Keys('A', 'given-secret'))!r} {CallerCredentials()!r}"
    assert "invoker-secret" not in shown
    assert "given-secret" not in shown
