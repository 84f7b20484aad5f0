"""Reading, changing and deleting a stack, with moto in place of AWS (aws/stacks.py)."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from lambdiff.aws import outputs, stacks
from lambdiff.aws.account import Account
from lambdiff.errors import ConfigurationError, CredentialsError, DeployError
from support.aws_resources import OUTPUTS, make_stack, refusing, save_deployment, stack_states

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
    """Changing a parameter leaves template, outputs and tags as they are."""
    make_stack()
    state = stacks.require(account, "lambdiff")
    stacks.start_update(account, state, {outputs.KEY_SERIAL: "7"}, keep_old_minutes=1)
    changed = stacks.require(account, "lambdiff")
    assert changed.parameters == {outputs.KEY_SERIAL: "7"}
    assert (changed.outputs, changed.ours) == (OUTPUTS, True)


@pytest.mark.parametrize(
    ("tags", "description", "status", "ours"),
    [
        ({outputs.DEPLOYMENT_TAG: "lambdiff"}, "", "CREATE_COMPLETE", True),
        ({}, "A diffusion model behind a Lambda Function URL, made by lambdiff.", "CREATE_COMPLETE", True),
        ({}, "A tutorial's endpoint", "CREATE_COMPLETE", False),
        ({"team": "design"}, "", "ROLLBACK_COMPLETE", False),
        ({}, "", "REVIEW_IN_PROGRESS", True),
    ],
)
def test_lambdiffs_stacks_are_recognized(
    account: Account, monkeypatch: pytest.MonkeyPatch, tags: dict[str, str], description: str, status: str, ours: bool
) -> None:
    """They have a tag, or the description that the first versions gave them; a stack under review is empty."""
    make_stack(tags=tags)
    stack_states(monkeypatch, {"Description": description, "StackStatus": status})
    assert stacks.require(account, "lambdiff").ours is ours


def test_a_change_is_waited_for(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state is passed on while a change is in progress; a stack under review waits for somebody else."""
    make_stack()
    stack_states(monkeypatch, "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE")
    seen: list[str] = []
    state = stacks.wait_until_idle(
        account, "lambdiff", seen=lambda each: seen.append(each.status), sleep=lambda _: None
    )
    assert state is not None
    assert (state.status, len(seen)) == ("UPDATE_COMPLETE", 2)
    stack_states(monkeypatch, "REVIEW_IN_PROGRESS")
    assert stacks.wait_until_idle(account, "lambdiff") is not None
    assert stacks.wait_until_idle(account, "none") is None
    stack_states(monkeypatch, "UPDATE_IN_PROGRESS")
    monkeypatch.setattr(stacks, "_MAX_POLLS", 3)
    with pytest.raises(DeployError, match="still changing: UPDATE_IN_PROGRESS"):
        stacks.wait_until_idle(account, "lambdiff", sleep=lambda _: None)


def test_a_template_is_read_as_it_was_deployed(account: Account) -> None:
    """The template is the deployed one; reading it may be refused."""
    make_stack()
    assert stacks.read_template(account, "lambdiff")["Resources"]["Topic"] == {"Type": "AWS::SNS::Topic"}
    with pytest.raises(CredentialsError, match="AWS's reason"):
        stacks.read_template(refusing(account, "GetTemplate"), "lambdiff")


def test_a_stack_can_be_deleted(account: Account) -> None:
    """A stack is deleted, and deleting it again is not an error."""
    make_stack()
    stacks.delete(account, "lambdiff")
    assert stacks.read(account, "lambdiff") is None
    stacks.delete(account, "lambdiff")


class FailingDeletion(Account):
    """An account in which DeleteStack has no effect, and a resource is reported as the reason."""

    def client(self, service: Any) -> Any:
        client = super().client(service)
        client.meta.events.register("before-call.cloudformation.DeleteStack", lambda **_: (Reply(200), {}))
        client.meta.events.register("after-call.cloudformation.DescribeStackEvents", self.add_events)
        return client

    @staticmethod
    def add_events(parsed: dict[str, Any], **_: Any) -> None:
        stack = parsed["StackEvents"][0]["StackId"]
        event = {"StackId": stack, "ResourceStatus": "DELETE_FAILED"}
        parsed["StackEvents"] = [
            {**event, "LogicalResourceId": "lambdiff", "PhysicalResourceId": stack},
            {**event, "LogicalResourceId": "Invoker060A9026", "ResourceStatusReason": "must delete access keys first"},
            {
                **event,
                "LogicalResourceId": "lambdiff",
                "PhysicalResourceId": stack,
                "ResourceStatus": "DELETE_IN_PROGRESS",
            },
            {**event, "LogicalResourceId": "Earlier", "ResourceStatusReason": "a failure of an earlier change"},
        ]


class Reply(NamedTuple):
    """What botocore reads of a reply."""

    status_code: int


def test_a_failed_deletion_names_the_resource_and_the_next_command(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the resource's own reason, and the fix the command that leaves it behind."""
    make_stack()
    stack_states(monkeypatch, "", "DELETE_IN_PROGRESS", "DELETE_FAILED")
    failing = FailingDeletion(account.session, account.id, account.arn, account.region)
    with pytest.raises(DeployError) as caught:
        stacks.delete(failing, "lambdiff", sleep=lambda _: None)
    assert "DELETE_FAILED Invoker060A9026: must delete access keys first" in caught.value.message
    assert "an earlier change" not in caught.value.message
    assert (
        "aws cloudformation delete-stack --stack-name lambdiff --region us-east-1 --retain-resources Invoker060A9026"
    ) in caught.value.fix


def test_the_state_before_a_deletion_is_not_its_result(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read right after the call may be older than the call."""
    make_stack()
    stack_states(monkeypatch, "DELETE_FAILED", "DELETE_FAILED", "DELETE_FAILED", "DELETE_IN_PROGRESS", "DELETE_FAILED")
    waits: list[float] = []
    failing = FailingDeletion(account.session, account.id, account.arn, account.region)
    with pytest.raises(DeployError):
        stacks.delete(failing, "lambdiff", sleep=waits.append)
    assert len(waits) >= 3
