"""ops/doctor.py: what it checks, and how it explains a 403."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
import time_machine
from botocore.stub import ANY, Stubber

from lambdiff import config
from lambdiff.aws.access import INVOKE_ACTIONS
from lambdiff.aws.account import Account, open_account
from lambdiff.ops import doctor
from support.aws_resources import OUTPUTS, REGION, make_function, make_stack, refusing, save_deployment


def by_check(results: Any) -> dict[str, doctor.CheckResult]:
    """Results by the name of the check."""
    return {result.check: result for result in results}


def test_the_machine_is_checked_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last result says how to sign in."""
    monkeypatch.setenv("AWS_REGION", REGION)
    found = by_check(doctor.diagnose())
    assert found["node"].status == "ok"
    assert found["credentials"].status == "error"
    assert "aws sso login" in found["credentials"].fix
    assert "clock" not in found


def test_a_new_account(aws: None) -> None:
    """A missing bootstrap is a note, because `deploy` offers it; so is a missing deployment."""
    found = by_check(doctor.diagnose())
    assert found["credentials"].status == "ok"
    assert found["bootstrap"].status == "note"
    assert found["concurrency"].status == "note"
    assert found["deployment"].fix == "lambdiff deploy"


def test_a_wrong_clock_is_an_error(account: Account) -> None:
    """Ten minutes off, AWS refuses every signature."""

    class AnsweringAccount(Account):
        def client(self, service: str) -> Any:
            client = super().client(service)
            stubber = Stubber(client)
            date = {"HTTPHeaders": {"date": "Mon, 01 Jun 2026 12:00:00 GMT"}}
            reply = {"Account": self.id, "Arn": self.arn, "UserId": "u", "ResponseMetadata": date}
            stubber.add_response("get_caller_identity", reply)
            stubber.activate()
            return client

    answering = AnsweringAccount(account.session, account.id, account.arn, account.region)
    with time_machine.travel("2026-06-01T12:10:00Z"):
        status, detail, _ = doctor._clock(answering)
    assert status == "error"
    assert "+600 s" in detail
    with time_machine.travel("2026-06-01T12:00:30Z"):
        assert doctor._clock(answering).status == "ok"


def test_a_saved_region_that_is_not_the_urls(aws: None) -> None:
    """The URL's region is used; the fix is the command that saves it."""
    deployment = save_deployment(region="eu-west-1")
    status, detail, fix = doctor._region(deployment)
    assert (status, detail) == ("note", f"{REGION}, as in the URL; eu-west-1 is saved")
    assert f"--region {REGION}" in fix
    assert doctor._region(save_deployment()) == ("ok", REGION, "")


@pytest.fixture
def invoker(aws: None) -> Any:
    """The invoker's user with a key, the secret with the key, the function and the deployment."""
    iam = boto3.client("iam")
    iam.create_user(UserName="Invoker")
    key = iam.create_access_key(UserName="Invoker")["AccessKey"]
    pair = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    secrets = boto3.client("secretsmanager", REGION)
    arn = secrets.create_secret(Name="lambdiff", SecretString=json.dumps(pair))["ARN"]
    make_stack(outputs={"SecretArn": arn})
    make_function()
    save_deployment(secret_arn=arn)
    return key["AccessKeyId"]


def test_an_inactive_key_is_an_error(invoker: str) -> None:
    """Rotation replaces it; the message does not show the whole key id."""
    account, iam = open_account(), boto3.client("iam")
    secret_arn = config.load().deployments["lambdiff"].secret_arn or ""
    assert doctor._key(account, secret_arn).status == "ok"
    iam.update_access_key(UserName="Invoker", AccessKeyId=invoker, Status="Inactive")
    status, detail, fix = doctor._key(account, secret_arn)
    assert status == "error"
    assert "lambdiff rotate" in fix
    assert "inactive" in detail
    assert invoker not in detail


@pytest.mark.parametrize(
    ("operation", "check"),
    [("ListAccessKeys", "key"), ("GetAccessKeyLastUsed", "key"), ("SimulatePrincipalPolicy", "permissions")],
)
def test_what_may_not_be_read_is_a_note(invoker: str, operation: str, check: str) -> None:
    """Without these permissions doctor cannot tell why a call is refused."""
    deployment = config.load().deployments["lambdiff"]
    results = doctor.explain_403(refusing(open_account(), operation), deployment)
    result = next(result for result in results if result.check == check)
    assert result.status == "note"
    assert "AWS's reason" in result.detail


def test_a_secret_without_a_key_is_explained(invoker: str) -> None:
    """The fix writes a new one."""
    deployment = config.load().deployments["lambdiff"]
    boto3.client("secretsmanager", REGION).put_secret_value(SecretId=deployment.secret_arn, SecretString="nothing")
    key, _ = doctor.explain_403(open_account(), deployment)
    assert "contains no access key" in key.detail
    assert "lambdiff rotate" in key.fix


@pytest.mark.parametrize(
    ("decisions", "status", "words"),
    [
        (("allowed", "allowed"), "ok", "has lambda:InvokeFunctionUrl and lambda:InvokeFunction"),
        (("allowed", "implicitDeny"), "error", "lacks lambda:InvokeFunction"),
        (("implicitDeny", "implicitDeny"), "error", "lacks lambda:InvokeFunctionUrl and lambda:InvokeFunction"),
    ],
)
def test_a_missing_permission_is_named(invoker: str, decisions: tuple[str, str], status: str, words: str) -> None:
    """IAM simulates both actions for the invoker on this function, with the conditions of a Function URL."""
    account = open_account()
    iam = account.client("iam")

    class SimulatingAccount(Account):
        def client(self, service: str) -> Any:
            return iam if service == "iam" else super().client(service)

    stubber = Stubber(iam)
    stubber.add_response("get_access_key_last_used", {"UserName": "Invoker"})
    results = [
        {"EvalActionName": action, "EvalDecision": decision}
        for action, decision in zip(INVOKE_ACTIONS, decisions, strict=True)
    ]
    parameters = {
        "PolicySourceArn": "arn:aws:iam::123456789012:user/Invoker",
        "ActionNames": list(INVOKE_ACTIONS),
        "ResourceArns": [f"arn:aws:lambda:{REGION}:123456789012:function:{OUTPUTS['FunctionName']}"],
        "ContextEntries": ANY,
    }
    stubber.add_response("simulate_principal_policy", {"EvaluationResults": results}, parameters)
    simulating = SimulatingAccount(account.session, account.id, account.arn, account.region)
    with stubber:
        found = doctor._permissions(simulating, config.load().deployments["lambdiff"])
    assert found.status == status
    assert words in found.detail
