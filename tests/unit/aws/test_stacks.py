"""Reading, changing and deleting a stack, with moto in place of AWS (aws/stacks.py)."""

from __future__ import annotations

import pytest

from lambdiff.aws import outputs, stacks
from lambdiff.aws.account import Account
from lambdiff.errors import ConfigurationError, CredentialsError
from support.aws_resources import OUTPUTS, make_stack, refusing, save_deployment

URL = "https://abc.lambda-url.eu-west-1.on.aws/"


def test_a_stack_is_read_with_outputs_and_parameters(account: Account) -> None:
    """A stack is read with its status, outputs and parameters; a missing stack is None."""
    make_stack(serial=3)
    state = stacks.read(account, "lambdiff")
    assert state is not None
    assert (state.status, state.stable, state.outputs) == ("CREATE_COMPLETE", True, OUTPUTS)
    assert state.parameters == {outputs.KEY_SERIAL: "3"}
    assert stacks.read(account, "none") is None


@pytest.mark.parametrize(
    ("found", "auth"),
    [({"SecretArn": "arn:secret"}, "key-pair"), ({"InvokerRoleArn": "arn:role"}, "role"), ({}, "caller")],
)
def test_outputs_become_a_deployment(found: dict[str, str], auth: str) -> None:
    """The URL, the function and the kind of authentication come from the stack's outputs."""
    deployment = stacks.to_deployment(
        "lambdiff", {"LambdaUrl": URL, "FunctionName": "fn", **found}, name="prod", region="eu-west-1", profile="work"
    )
    assert (deployment.url, deployment.region, deployment.function_name) == (URL, "eu-west-1", "fn")
    assert (deployment.name, deployment.stack, deployment.auth, deployment.profile) == (
        "prod", "lambdiff", auth, "work",
    )  # fmt: skip


def test_a_foreign_stack_is_refused() -> None:
    """A stack without the `LambdaUrl` output was not created by lambdiff and is refused."""
    with pytest.raises(ConfigurationError, match="no output LambdaUrl"):
        stacks.to_deployment("other", {"Other": "x"}, name="prod", region="eu-west-1", profile=None)


def test_a_missing_stack_is_reported_with_its_region(account: Account) -> None:
    """The message names the region and the account, because the most common mistake is a wrong region."""
    with pytest.raises(ConfigurationError, match="no stack nothing in us-east-1 of account 123456789012"):
        stacks.require(account, "nothing")


def test_a_deployment_without_a_stack_is_reported(account: Account) -> None:
    """If no stack is saved with a deployment, the fix is the command that saves one."""
    deployment = save_deployment(stack=None)
    with pytest.raises(ConfigurationError, match="lambdiff configure --stack"):
        stacks.require_for(account, deployment)


def test_a_stack_that_may_not_be_read_is_reported(account: Account) -> None:
    """If AWS denies access to the stack, the message contains AWS's reason."""
    make_stack()
    with pytest.raises(CredentialsError, match="AWS's reason"):
        stacks.read(refusing(account, "DescribeStacks"), "lambdiff")


def test_one_parameter_can_be_changed(account: Account) -> None:
    """Changing a parameter leaves template and outputs as they are."""
    make_stack()
    state = stacks.require(account, "lambdiff")
    stacks.update_parameters(account, state, {outputs.KEY_SERIAL: "7"})
    assert stacks.require(account, "lambdiff").parameters == {outputs.KEY_SERIAL: "7"}
    assert stacks.require(account, "lambdiff").outputs == OUTPUTS


def test_a_stack_can_be_deleted(account: Account) -> None:
    """A stack is deleted, and deleting it again is not an error."""
    make_stack()
    stacks.delete(account, "lambdiff")
    assert stacks.read(account, "lambdiff") is None
    stacks.delete(account, "lambdiff")
