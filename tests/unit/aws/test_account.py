"""Who asks, where, and what the account allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from lambdiff.aws import account as accounts
from lambdiff.aws import logs, stacks
from lambdiff.aws.account import Account, open_account
from lambdiff.config import Sourced
from lambdiff.errors import ConfigurationError, CredentialsError, DeployError


class Stubbed(Account):
    """An account whose Lambda says what it is told to; botocore checks the answer's form."""

    def client(self, service: str) -> Any:
        client = boto3.client(service, self.region.value, aws_access_key_id="a", aws_secret_access_key="b")
        stubber = Stubber(client)
        if LIMITS is None:
            stubber.add_client_error("get_account_settings", "AccessDeniedException")
        else:
            limit, unreserved = LIMITS
            answer = {"ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": unreserved}
            stubber.add_response("get_account_settings", {"AccountLimit": answer})
        stubber.activate()
        return client


LIMITS: tuple[int, int] | None = None


@pytest.mark.parametrize(
    ("limits", "wanted", "already", "reserved"),
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
def test_an_account_keeps_100_executions_for_the_rest(
    limits: tuple[int, int] | None, wanted: int | None, already: int, reserved: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A reservation that Lambda would refuse is left out; what this function has already counts as free."""
    monkeypatch.setitem(globals(), "LIMITS", limits)
    account = Stubbed(boto3.Session(), "123456789012", "arn:aws:iam::123456789012:user/a", Sourced("us-east-1", "x"))
    assert account.reservation(wanted, already) == reserved


def test_the_identity_is_asked_for_once(aws: None) -> None:
    """Account, caller and region, the region with its source."""
    account = open_account()
    assert account.id == "123456789012"
    assert str(account.region) == "us-east-1 (AWS_REGION)"
    assert open_account(region="eu-central-1").region == Sourced("eu-central-1", "--region")


def test_no_region_is_a_question_of_configuration(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the flag."""
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(ConfigurationError, match="--region"):
        open_account()


def test_no_credentials_say_how_to_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3 and the usual commands."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(CredentialsError, match="aws sso login"):
        open_account()


def test_an_assumed_role_is_trusted_as_the_role() -> None:
    """A session's own ARN cannot be named in a trust policy that outlives it."""
    session = "arn:aws:sts::123456789012:assumed-role/Designers/ann@example.org"
    assert Account(boto3.Session(), "1", session, Sourced("r", "")).principal.endswith(":role/Designers")
    user = "arn:aws:iam::123456789012:user/ann"
    assert Account(boto3.Session(), "1", user, Sourced("r", "")).principal == user


def test_a_child_process_gets_the_keys_and_the_region(account: Account) -> None:
    """Whatever provider they come from; the account's repr shows none of them."""
    assert account.environment() == {
        "AWS_ACCESS_KEY_ID": "FOOBARKEY",
        "AWS_SECRET_ACCESS_KEY": "FOOBARSECRET",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    assert "FOOBARSECRET" not in repr(account)


def test_bootstrap_is_recognised_by_its_parameter(account: Account) -> None:
    """Absent, or a version."""
    assert account.bootstrap_version() is None
    account.client("ssm").put_parameter(Name=accounts.BOOTSTRAP_PARAMETER, Value="33", Type="String")
    assert account.bootstrap_version() == 33


@pytest.mark.parametrize(
    ("code", "kind"),
    [("ExpiredToken", CredentialsError), ("AccessDenied", CredentialsError), ("InternalFailure", DeployError)],
)
def test_a_refusal_quotes_aws(code: str, kind: type[Exception]) -> None:
    """AWS's code and words are in the message."""
    error = ClientError({"Error": {"Code": code, "Message": "its words"}}, "DescribeStacks")
    told = accounts.refused(error, "The stack lambdiff")
    assert type(told) is kind
    assert f"{code}: its words" in told.message


@pytest.mark.parametrize("service", ["lambda", "cloudformation", "logs", "ecr", "ssm"])
def test_no_connection_is_no_traceback(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port on which nobody listens: whatever is asked, the answer is exit code 7 and the network."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    account = Account(boto3.Session("a", "b"), "1", "arn", Sourced("us-east-1", "test"))
    call: Callable[[], object] = {
        "lambda": account.concurrency,
        "cloudformation": lambda: stacks.read(account, "lambdiff"),
        "logs": lambda: list(logs.read(account, "group", since=0)),
        "ecr": lambda: account.client("ecr").describe_images(repositoryName="assets"),
        "ssm": account.bootstrap_version,
    }[service]
    with pytest.raises(DeployError, match="cannot be reached"):
        call()


def test_keys_that_cannot_be_had_are_no_traceback() -> None:
    """A session whose credentials are gone when it is asked to sign."""
    account = Account(boto3.Session(), "1", "arn", Sourced("us-east-1", "test"))
    with pytest.raises(CredentialsError, match="Unable to locate credentials"):
        account.bootstrap_version()
