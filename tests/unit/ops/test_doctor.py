"""What the doctor finds, and how it decodes a 403."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
import time_machine
from botocore.stub import ANY, Stubber

from lambdiff import config
from lambdiff.aws.account import Account, open_account
from lambdiff.ops import doctor
from support.made_stack import OUTPUTS, REGION, make_function, make_stack, save_deployment


def by_check(findings: Any) -> dict[str, doctor.Finding]:
    """Findings by what was looked at."""
    return {finding.check: finding for finding in findings}


def test_without_credentials_the_machine_is_still_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the last finding says how to sign in."""
    monkeypatch.setenv("AWS_REGION", REGION)
    found = by_check(doctor.examine())
    assert found["node"].verdict == "good"
    assert found["credentials"].verdict == "bad"
    assert "aws sso login" in found["credentials"].fix
    assert "clock" not in found


def test_an_account_that_is_new_to_cdk(aws: None) -> None:
    """Not bootstrapped is a note, since deploy offers it; nothing deployed is one too."""
    found = by_check(doctor.examine())
    assert found["credentials"].verdict == "good"
    assert found["bootstrap"].verdict == "note"
    assert found["concurrency"].verdict == "note"
    assert found["deployment"].fix == "lambdiff deploy"


def test_a_wrong_clock_is_found(account: Account) -> None:
    """Ten minutes off: every signature would be refused."""

    class Answering(Account):
        def client(self, service: str) -> Any:
            client = super().client(service)
            stubber = Stubber(client)
            date = {"HTTPHeaders": {"date": "Mon, 01 Jun 2026 12:00:00 GMT"}}
            answer = {"Account": self.id, "Arn": self.arn, "UserId": "u", "ResponseMetadata": date}
            stubber.add_response("get_caller_identity", answer)
            stubber.activate()
            return client

    answering = Answering(account.session, account.id, account.arn, account.region)
    with time_machine.travel("2026-06-01T12:10:00Z"):
        verdict, detail, _ = doctor._clock(answering)
    assert verdict == "bad"
    assert "+600 s" in detail
    with time_machine.travel("2026-06-01T12:00:30Z"):
        assert doctor._clock(answering)[0] == "good"


def test_a_region_that_does_not_match_the_url(aws: None) -> None:
    """Requests signed for another region get 403; the command that mends it is given."""
    deployment = save_deployment(region="eu-west-1")
    verdict, detail, fix = doctor._region(deployment)
    assert verdict == "bad"
    assert REGION in detail
    assert fix.endswith(f"--region {REGION}")


@pytest.fixture
def invoker(aws: None) -> Any:
    """The invoker's user with a key, the key in the secret, the function and the deployment."""
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


def test_a_rotated_key_is_recognised(invoker: str) -> None:
    """Active, inactive, and gone: the last two are mended by rotating."""
    deployment, account, iam = config.load().deployments["lambdiff"], open_account(), boto3.client("iam")
    assert doctor._key(account, deployment)[0] == "good"
    iam.update_access_key(UserName="Invoker", AccessKeyId=invoker, Status="Inactive")
    verdict, detail, fix = doctor._key(account, deployment)
    assert (verdict, fix) == ("bad", "lambdiff rotate")
    assert "inactive" in detail
    assert invoker not in detail


@pytest.mark.parametrize(
    ("decisions", "verdict", "words"),
    [
        (("allowed", "allowed"), "good", "has both"),
        (("allowed", "implicitDeny"), "bad", "lacks lambda:InvokeFunction"),
        (("implicitDeny", "implicitDeny"), "bad", "lacks lambda:InvokeFunctionUrl and lambda:InvokeFunction"),
    ],
)
def test_a_missing_permission_is_named(invoker: str, decisions: tuple[str, str], verdict: str, words: str) -> None:
    """The simulation is asked about the invoker, this function and both actions, as a Function URL asks for them."""
    account = open_account()
    iam = account.client("iam")

    class Simulating(Account):
        def client(self, service: str) -> Any:
            return iam if service == "iam" else super().client(service)

    stubber = Stubber(iam)
    stubber.add_response("get_access_key_last_used", {"UserName": "Invoker"})
    results = [
        {"EvalActionName": action, "EvalDecision": decision}
        for action, decision in zip(doctor.INVOKE, decisions, strict=True)
    ]
    asked = {
        "PolicySourceArn": "arn:aws:iam::123456789012:user/Invoker",
        "ActionNames": list(doctor.INVOKE),
        "ResourceArns": [f"arn:aws:lambda:{REGION}:123456789012:function:{OUTPUTS['FunctionName']}"],
        "ContextEntries": ANY,
    }
    stubber.add_response("simulate_principal_policy", {"EvaluationResults": results}, asked)
    deployment = config.load().deployments["lambdiff"]
    with stubber:
        found = doctor._permissions(Simulating(account.session, account.id, account.arn, account.region), deployment)
    assert found[0] == verdict
    assert words in found[1]
