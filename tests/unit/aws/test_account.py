"""The AWS identity, the region and the limits of an account (aws/account.py)."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from lambdiff.auth import aws_session
from lambdiff.auth.aws_session import AwsSession
from lambdiff.aws.account import Account, open_account
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import ConfigurationError, CredentialsError, DeployError, InvalidRequest
from support.aws_resources import BOOTSTRAP_PARAMETER


def session() -> AwsSession:
    """A session with whatever credentials the environment has."""
    return AwsSession(boto3.Session())


class StubbedAccount(Account):
    """An account with fixed concurrency limits; botocore's stubber validates the reply."""

    limits: tuple[int, int] | None = None

    def client(self, service: str) -> Any:
        client = boto3.client(service, self.region.value, aws_access_key_id="a", aws_secret_access_key="b")
        stubber = Stubber(client)
        if self.limits is None:
            stubber.add_client_error("get_account_settings", "AccessDeniedException")
        else:
            limit, unreserved = self.limits
            reply = {"ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": unreserved}
            stubber.add_response("get_account_settings", {"AccountLimit": reply})
        stubber.activate()
        return client


@pytest.mark.parametrize(
    ("limits", "wanted", "current", "reservable"),
    [
        ((1000, 1000), 10, 0, 10),
        ((1000, 110), 10, 0, 10),
        ((1000, 109), 10, 0, None),
        ((1000, 100), 10, 10, 10),
        ((10, 10), 10, 0, None),
        ((10, 10), 0, 0, 0),
        (None, 10, 0, 10),
        ((1000, 1000), None, 0, None),
    ],
)
def test_an_account_keeps_100_unreserved_executions(
    limits: tuple[int, int] | None, wanted: int | None, current: int, reservable: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A reservation that Lambda would refuse is left out; the function's current reservation counts as unreserved."""
    monkeypatch.setattr(StubbedAccount, "limits", limits)
    account = StubbedAccount(session(), "123456789012", "arn:aws:iam::123456789012:user/a", Sourced("us-east-1", "x"))
    assert account.reservable(wanted, current) == reservable


def test_an_account_has_an_id_and_a_region(aws: None) -> None:
    """The region has a source, and an argument takes precedence over the environment."""
    account = open_account()
    assert account.id == "123456789012"
    assert str(account.region) == "us-east-1 (AWS_REGION)"
    assert open_account(region="eu-central-1").region == Sourced("eu-central-1", "`region=`")


def test_a_saved_deployment_determines_the_region(aws: None) -> None:
    """The region in the deployment's URL, or else the saved one, takes precedence over the environment."""
    deployment = Deployment(name="demo", url="https://abc.lambda-url.eu-west-1.on.aws/", region="eu-west-1")
    assert open_account(deployment=deployment).region == Sourced("eu-west-1", "from the URL")
    assert open_account(deployment=Deployment(name="demo", url="https://x/", region="eu-west-2")).region == Sourced(
        "eu-west-2", "deployment demo"
    )


def test_a_missing_region_is_explained(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no region is configured, the error names the `region` parameter."""
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(ConfigurationError, match="`region=`"):
        open_account()


def test_missing_credentials_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials, the error names the usual commands to sign in."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(CredentialsError, match="aws sso login"):
        open_account()


def refuse_identity(monkeypatch: pytest.MonkeyPatch, *regions: str, code: str = "InvalidClientTokenId") -> None:
    """Let STS refuse the caller in some regions."""
    original = aws_session.open_session

    def refuse(context: dict[str, Any], **_: Any) -> None:
        if context["client_region"] in regions:
            raise ClientError(
                {"Error": {"Code": code, "Message": "The security token is invalid"}}, "GetCallerIdentity"
            )

    def open_session(profile: Sourced[str] | None = None, region: str | None = None) -> AwsSession:
        opened = original(profile, region)
        opened._opened.events.register("before-call.sts.GetCallerIdentity", refuse)
        return opened

    monkeypatch.setattr(aws_session, "open_session", open_session)


def test_a_region_that_is_not_enabled_is_not_an_expired_session(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another region accepts the credentials, they are valid, and the region is the problem."""
    refuse_identity(monkeypatch, "me-south-1")
    with pytest.raises(ConfigurationError, match=r"me-south-1 \(`region=`\) does not accept.*us-east-1 does") as caught:
        open_account(region="me-south-1")
    assert not isinstance(caught.value, CredentialsError)
    assert "Enable the region" in caught.value.fix


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_an_expired_session_stays_one(aws: None, monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    """If no region accepts the credentials, the fix is to sign in."""
    refuse_identity(monkeypatch, "us-east-1", "eu-west-1", code="ExpiredToken")
    with pytest.raises(CredentialsError, match="aws sso login"):
        open_account(region=region)


def test_a_region_that_cannot_exist_is_refused_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong argument is a usage error, a wrong environment one of configuration; AWS is called for neither."""
    with pytest.raises(InvalidRequest, match="no AWS region 'mars'"):
        open_account(region="mars")
    monkeypatch.setenv("AWS_REGION", "us-esat-1")
    with pytest.raises(ConfigurationError, match=r"'us-esat-1' \(AWS_REGION\).\nDid you mean us-east-1\?"):
        open_account()


def test_a_region_that_may_be_new_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region that botocore does not know yet is used; if AWS does not answer there, the fix doubts the region."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(DeployError, match=r"cannot be reached.*\nThe region eu-south-9 .*may not exist.*eu-south-1"):
        open_account(region="eu-south-9")


def test_a_child_process_receives_credentials_and_region(account: Account) -> None:
    """The credentials of any provider are passed in the environment; the account's `repr` shows no secret."""
    assert account.environment() == {
        "AWS_ACCESS_KEY_ID": "FOOBARKEY",
        "AWS_SECRET_ACCESS_KEY": "FOOBARSECRET",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    assert "FOOBARSECRET" not in repr(account)


def test_the_bootstrap_version_is_a_parameter(account: Account) -> None:
    """The bootstrap version is read from SSM: None before the bootstrap, a number afterwards."""
    assert account.bootstrap_version() is None
    account.client("ssm").put_parameter(Name=BOOTSTRAP_PARAMETER, Value="33", Type="String")
    assert account.bootstrap_version() == 33


def test_credentials_that_disappear_are_explained() -> None:
    """A session whose credentials are gone raises `CredentialsError`, not botocore's error."""
    account = Account(session(), "1", "arn", Sourced("us-east-1", "test"))
    with pytest.raises(CredentialsError, match="no AWS credentials"):
        account.bootstrap_version()
    with pytest.raises(CredentialsError, match="no AWS credentials"):
        account.environment()
