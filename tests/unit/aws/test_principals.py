"""The IAM principal of the caller, and checks of named principals, with moto in place of AWS (aws/principals.py)."""

from __future__ import annotations

import dataclasses
import json

import pytest

from lambdiff.aws import principals
from lambdiff.aws.account import Account
from lambdiff.errors import ConfigurationError, DeployError
from support.aws_resources import refusing

SSO_ROLE = "AWSReservedSSO_Designers_0123456789abcdef"
SSO_PATH = "/aws-reserved/sso.amazonaws.com/eu-west-1/"
SSO_ARN = f"arn:aws:iam::123456789012:role{SSO_PATH}{SSO_ROLE}"


def caller(account: Account, arn: str) -> Account:
    """Return the same account with another caller."""
    return dataclasses.replace(account, arn=arn)


@pytest.fixture
def iam(account: Account) -> Account:
    """An account with a role for SSO users, a role and a user with a path."""
    client = account.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    client.create_role(RoleName=SSO_ROLE, Path=SSO_PATH, AssumeRolePolicyDocument=trust)
    client.create_role(RoleName="Builder", AssumeRolePolicyDocument=trust)
    client.create_user(UserName="ann", Path="/design/")
    return account


@pytest.mark.parametrize(
    ("session", "principal"),
    [
        (f"arn:aws:sts::123456789012:assumed-role/{SSO_ROLE}/ann@example.org", SSO_ARN),
        ("arn:aws:sts::123456789012:assumed-role/Builder/i-0123", "arn:aws:iam::123456789012:role/Builder"),
        ("arn:aws:iam::123456789012:user/design/ann", "arn:aws:iam::123456789012:user/design/ann"),
        ("arn:aws-us-gov:iam::123456789012:user/ann", "arn:aws-us-gov:iam::123456789012:user/ann"),
    ],
)
def test_the_caller_is_named_with_its_path(iam: Account, session: str, principal: str) -> None:
    """The ARN of a session has lost the role's path, which IAM knows."""
    assert principals.of_caller(caller(iam, session)) == principal


@pytest.mark.parametrize(
    ("session", "words"),
    [
        ("arn:aws:iam::123456789012:root", "the account's root user"),
        ("arn:aws:sts::123456789012:federated-user/ann", "neither an IAM user nor a role"),
        ("arn:aws:sts::123456789012:assumed-role/Gone/ann", "The role Gone could not be read"),
    ],
)
def test_other_callers_must_name_a_principal(iam: Account, session: str, words: str) -> None:
    """Those who cannot assume a role, or whose role is unknown, are asked for `principals=`."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        principals.of_caller(caller(iam, session))
    assert "`principals=`" in caught.value.fix


def test_without_permission_the_principal_must_be_named(iam: Account) -> None:
    """If the role may not be read, its path is not guessed: the fix is the command that prints the ARN."""
    session = f"arn:aws:sts::123456789012:assumed-role/{SSO_ROLE}/ann"
    with pytest.raises(ConfigurationError, match="path of its role") as caught:
        principals.of_caller(caller(refusing(iam, "GetRole", "AccessDenied"), session))
    assert f"aws iam get-role --role-name {SSO_ROLE} --query Role.Arn" in caught.value.fix


def test_named_principals_must_exist(iam: Account) -> None:
    """IAM would refuse a trust policy with a missing principal or a wrong path, after the push."""
    assert principals.check(iam, (SSO_ARN, "arn:aws:iam::123456789012:user/design/ann")) == []
    with pytest.raises(ConfigurationError, match="has no role Gone") as caught:
        principals.check(iam, ("arn:aws:iam::123456789012:role/Gone",))
    assert "aws iam list-roles" in caught.value.fix
    with pytest.raises(ConfigurationError, match="has no user bob"):
        principals.check(iam, ("arn:aws:iam::123456789012:user/bob",))
    with pytest.raises(ConfigurationError, match="the path of the role") as caught:
        principals.check(iam, (f"arn:aws:iam::123456789012:role/{SSO_ROLE}",))
    assert SSO_ARN in caught.value.fix


def test_what_cannot_be_checked_is_accepted(iam: Account) -> None:
    """Principals of other accounts and those that may not be read are accepted; wide ones are pointed out."""
    foreign, everybody = "arn:aws:iam::999999999999:role/Partner", "arn:aws:iam::123456789012:root"
    notes = principals.check(iam, (foreign, everybody))
    assert "another account, 999999999999" in notes[0]
    assert "every identity in the account" in notes[1]
    assert principals.check(refusing(iam, "GetRole", "AccessDenied"), ("arn:aws:iam::123456789012:role/Gone",)) == []
    with pytest.raises(DeployError):
        principals.check(refusing(iam, "GetUser", "Throttling"), ("arn:aws:iam::123456789012:user/bob",))
