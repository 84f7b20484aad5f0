"""stacks.py: a deployment from CloudFormation's outputs, against moto's AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from lambdiff.aws import stacks
from lambdiff.errors import ConfigurationError, CredentialsError

URL = "https://abc.lambda-url.eu-west-1.on.aws/"


@pytest.fixture
def make_stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Make a stack with the given outputs."""
    with mock_aws():
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACALLER")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "caller-secret")

        def make(**outputs: str) -> None:
            template = {
                "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
                "Outputs": {name: {"Value": value} for name, value in outputs.items()},
            }
            boto3.client("cloudformation", "eu-west-1").create_stack(
                StackName="lambdiff", TemplateBody=json.dumps(template)
            )

        yield make


@pytest.mark.parametrize(
    ("outputs", "auth"),
    [({"SecretArn": "arn:secret"}, "key-pair"), ({"InvokerRoleArn": "arn:role"}, "role"), ({}, "caller")],
)
def test_outputs_become_a_deployment(make_stack: object, outputs: dict[str, str], auth: str) -> None:
    """URL, region, function and the kind of signer come from the stack."""
    make_stack(LambdaUrl=URL, FunctionName="fn", **outputs)  # type: ignore[operator]
    found = stacks.deployment("lambdiff", name="prod", region="eu-west-1", profile=None)
    assert (found.url, found.region, found.function_name, found.auth) == (URL, "eu-west-1", "fn", auth)


def test_a_foreign_stack_is_refused(make_stack: object) -> None:
    """A stack without the output is none of lambdiff's."""
    make_stack(Other="x")  # type: ignore[operator]
    with pytest.raises(ConfigurationError, match="no output LambdaUrl"):
        stacks.deployment("lambdiff", name="prod", region="eu-west-1", profile=None)


def test_a_missing_stack_names_the_region_it_was_looked_for_in(make_stack: object) -> None:
    """The commonest mistake is the wrong region."""
    with pytest.raises(ConfigurationError, match="no stack nothing in eu-west-1"):
        stacks.deployment("nothing", name="prod", region="eu-west-1", profile=None)


def test_no_region_is_told(make_stack: object) -> None:
    """Without a region there is nowhere to look."""
    with pytest.raises(ConfigurationError, match="region is not known"):
        stacks.deployment("lambdiff", name="prod", region=None, profile=None)


def test_no_credentials_is_told() -> None:
    """Without credentials the fix is to sign in."""
    with pytest.raises(CredentialsError) as caught:
        stacks.deployment("lambdiff", name="prod", region="eu-west-1", profile=None)
    assert "Sign in" in caught.value.fix
