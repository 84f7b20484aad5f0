"""The checks of `lambdiff doctor`, and how it explains a 403 (ops/doctor.py)."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.stub import ANY, Stubber

from lambdiff import config
from lambdiff.auth.credentials import Keys
from lambdiff.aws import account as accounts
from lambdiff.aws import function as functions
from lambdiff.aws.access import INVOKE_ACTIONS
from lambdiff.aws.account import Account, open_account
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from lambdiff.ops import doctor
from support.aws_resources import (
    BOOTSTRAP_PARAMETER,
    OUTPUTS,
    REGION,
    make_function,
    make_stack,
    refusing,
    save_deployment,
    stack_states,
)
from support.stub_engine import StubEngine


def by_check(results: Any) -> dict[str, doctor.CheckResult]:
    """Return results by the name of the check."""
    return {result.check: result for result in results}


def result_of(check: str, results: Iterator[doctor.CheckResult]) -> doctor.CheckResult:
    """Return the result of one check, without running the checks after it."""
    return next(result for result in results if result.check == check)


def test_the_machine_is_checked_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials only the machine is checked, and the last result says how to sign in."""
    monkeypatch.setenv("AWS_REGION", REGION)
    results = by_check(doctor.diagnose())
    assert results["node"].status == "ok"
    assert results["credentials"].status == "error"
    assert "aws sso login" in results["credentials"].fix
    assert "clock" not in results


def test_a_missing_container_engine_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """CodeBuild takes its place; generating and calling an endpoint need neither."""
    monkeypatch.setenv("CDK_DOCKER", "/nonexistent")
    result = result_of("container engine", doctor.diagnose())
    assert result.status == "note"
    assert "CodeBuild builds the image" in result.fix


def test_a_new_account_has_notes_but_no_errors(aws: None) -> None:
    """A missing bootstrap, which `deploy` offers, and a missing deployment are notes."""
    results = by_check(doctor.diagnose())
    assert results["credentials"].status == "ok"
    assert results["bootstrap"].status == "note"
    assert results["concurrency"].status == "note"
    assert results["endpoint"].status == "note"
    assert "lambdiff deploy" in results["endpoint"].fix


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [("33", "", "version 33"), ("5", "", "has version 5, which is too old"), ("33", "DELETE_FAILED", "is damaged")],
)
def test_the_bootstrap_is_checked(
    aws: None, monkeypatch: pytest.MonkeyPatch, version: str, status: str, words: str
) -> None:
    """An old bootstrap and a damaged one are errors, with the command that repairs them."""
    boto3.client("ssm", REGION).put_parameter(Name=BOOTSTRAP_PARAMETER, Value=version, Type="String")
    make_stack(accounts.BOOTSTRAP_STACK, tags={})
    stack_states(monkeypatch, status, name=accounts.BOOTSTRAP_STACK)
    result = result_of("bootstrap", doctor.diagnose())
    assert words in result.detail
    assert (result.status == "ok") is (words == "version 33")
    assert ("aws cloudformation" in result.fix) is bool(status)


@pytest.mark.parametrize(
    ("version", "status", "words"), [("30", "ok", "version 30, qualifier platform"), ("3", "error", "version 3 ")]
)
def test_the_bootstrap_of_the_deployment_is_checked(aws: None, version: str, status: str, words: str) -> None:
    """A deployment with a custom bootstrap does not depend on CDK's own."""
    parameter = BOOTSTRAP_PARAMETER.replace("hnb659fds", "platform")
    boto3.client("ssm", REGION).put_parameter(Name=parameter, Value=version, Type="String")
    make_stack(qualifier="platform")
    save_deployment()
    result = result_of("bootstrap", doctor.diagnose())
    assert result.status == status
    assert words in result.detail


def test_a_region_without_function_urls_is_an_error(aws: None) -> None:
    """Nothing can be deployed there."""
    assert result_of("function URLs", doctor.diagnose()).status == "ok"
    result = result_of("function URLs", doctor.diagnose(region="ca-west-1"))
    assert (result.status, "no Function URLs in ca-west-1" in result.detail) == ("error", True)


def test_a_wrong_clock_is_an_error(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is ten minutes off is an error, because AWS refuses its signatures; half a minute is not."""

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
    monkeypatch.setattr(accounts, "open_account", lambda *_, **__: answering)
    with time_machine.travel("2026-06-01T12:10:00Z"):
        clock = result_of("clock", doctor.diagnose())
    assert clock.status == "error"
    assert "+600 s" in clock.detail
    with time_machine.travel("2026-06-01T12:00:30Z"):
        assert result_of("clock", doctor.diagnose()).status == "ok"


def test_a_region_that_differs_from_the_urls_is_a_note(aws: None) -> None:
    """If the saved region differs from the URL's, which is used, the fix is the command that saves it."""
    save_deployment(region="eu-west-1")
    region = result_of("region", doctor.diagnose())
    assert (region.status, region.detail) == ("note", f"{REGION}, as in the URL; eu-west-1 is saved")
    assert f"--region {REGION}" in region.fix
    save_deployment()
    region = result_of("region", doctor.diagnose())
    assert (region.status, region.detail, region.fix) == ("ok", REGION, "")


def verdicts(results: Iterable[doctor.CheckResult]) -> dict[str, tuple[bool, bool]]:
    """Return for each task whether it is ready and whether `generate` does it."""
    return {each.task: (each.ready, each.used) for each in doctor.Diagnosis.of(list(results)).verdicts}


def test_each_task_has_a_verdict_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AWS and without Docker this machine still generates, and that is what counts."""
    monkeypatch.setenv("CDK_DOCKER", "no-such-engine")
    results = list(doctor.diagnose())
    assert verdicts(results) == {
        "generate here": (True, True), "call an endpoint": (False, False), "deploy": (False, False)
    }  # fmt: skip
    diagnosis = doctor.Diagnosis.of(results)
    assert diagnosis.exit_code == 0
    reasons = {each.task: each.reason for each in diagnosis.verdicts}
    assert reasons["generate here"] == ""
    assert reasons["call an endpoint"] == "endpoint: none is configured"
    assert reasons["deploy"].startswith("credentials: ")  # CodeBuild takes the place of a container engine


def test_a_base_install_can_only_call(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extras, an endpoint that answers is enough; neither AWS nor an account is asked about it."""
    for module in ("lambdiff.engine.openvino", "aws_cdk"):
        monkeypatch.setitem(sys.modules, module, None)  # cannot be imported
    results = list(doctor.diagnose())
    assert verdicts(results) == {
        "generate here": (False, False), "call an endpoint": (True, True), "deploy": (False, False)
    }  # fmt: skip
    assert doctor.Diagnosis.of(results).exit_code == 0
    checks = {(each.task, each.check): each for each in results}
    assert "stub@r1 on stub" in checks["call an endpoint", "endpoint"].detail
    assert "Install it:" in checks["generate here", "engine"].fix
    assert "Install it:" in checks["deploy", "deploy extra"].fix
    assert ("deploy", "node") not in checks
    assert ("call an endpoint", "credentials") not in checks


def test_an_endpoint_that_refuses_is_explained(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the configured endpoint does not work, `generate` does not either, although this machine could."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-key")
    results = list(doctor.diagnose())
    assert verdicts(results)["generate here"] == (True, False)
    assert verdicts(results)["call an endpoint"] == (False, True)
    assert doctor.Diagnosis.of(results).exit_code == 3


def test_a_broken_model_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that `generate` would use is checked, not only the built-in one."""
    monkeypatch.setenv("LAMBDIFF_MODEL_DIR", str(tmp_path))
    results = list(doctor.diagnose())
    assert verdicts(results)["generate here"] == (False, True)
    assert doctor.Diagnosis.of(results).exit_code == 3


def test_an_unknown_deployment_is_an_error_of_the_call() -> None:
    """A name that is not saved is a problem of the task that needs it."""
    results = list(doctor.diagnose("none"))
    assert verdicts(results)["call an endpoint"] == (False, True)
    assert "no deployment" in result_of("endpoint", iter(results)).detail


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An endpoint with a stub engine that the keys in the environment may call, configured by LAMBDIFF_URL."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    monkeypatch.setenv("LAMBDIFF_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # AWS itself cannot be reached
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with FunctionUrlServer(App(StubEngine), Keys("AKIDEXAMPLE", "very-secret-key"), REGION) as function:
        monkeypatch.setenv("LAMBDIFF_URL", function.url)
        yield function.url


@pytest.fixture
def invoker(aws: None) -> Any:
    """The key id of an invoker with a user, a key, a secret, a function and a saved deployment."""
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
    """An inactive access key is an error that suggests a rotation and does not show the whole key id."""
    account, deployment = open_account(), config.load().deployments["lambdiff"]
    assert result_of("key", doctor.explain_403(account, deployment)).status == "ok"
    boto3.client("iam").update_access_key(UserName="Invoker", AccessKeyId=invoker, Status="Inactive")
    key = result_of("key", doctor.explain_403(account, deployment))
    assert key.status == "error"
    assert "lambdiff rotate" in key.fix
    assert "inactive" in key.detail
    assert invoker not in key.detail


@pytest.mark.parametrize(
    ("operation", "check"),
    [("ListAccessKeys", "key"), ("GetAccessKeyLastUsed", "key"), ("SimulatePrincipalPolicy", "permissions")],
)
def test_a_check_without_permission_is_a_note(invoker: str, operation: str, check: str) -> None:
    """If a check lacks a permission of its own, its result is a note with AWS's reason."""
    deployment = config.load().deployments["lambdiff"]
    results = doctor.explain_403(refusing(open_account(), operation), deployment)
    result = result_of(check, results)
    assert result.status == "note"
    assert "AWS's reason" in result.detail


def test_a_secret_without_a_key_is_explained(invoker: str) -> None:
    """If the secret contains no access key, the fix is a rotation, which writes a new one."""
    deployment = config.load().deployments["lambdiff"]
    boto3.client("secretsmanager", REGION).put_secret_value(SecretId=deployment.secret_arn, SecretString="nothing")
    key, _ = doctor.explain_403(open_account(), deployment)
    assert "contains no access key" in key.detail
    assert "lambdiff rotate" in key.fix


@pytest.mark.parametrize(
    ("decisions", "snapstart", "status", "words"),
    [
        (("allowed", "allowed"), False, "ok", "has lambda:InvokeFunctionUrl and lambda:InvokeFunction"),
        (("allowed", "allowed"), True, "ok", "has lambda:InvokeFunctionUrl and lambda:InvokeFunction"),
        (("allowed", "implicitDeny"), False, "error", "lacks lambda:InvokeFunction"),
        (("implicitDeny", "implicitDeny"), False, "error", "lacks lambda:InvokeFunctionUrl and lambda:InvokeFunction"),
    ],
)
def test_a_missing_permission_is_named(
    invoker: str, decisions: tuple[str, str], snapstart: bool, status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The actions that IAM's simulation denies to the invoker are named; with SnapStart, on the alias of the URL."""
    account = open_account()
    read = functions.read
    monkeypatch.setattr(functions, "read", lambda *args: dataclasses.replace(read(*args), snapstart=snapstart))
    iam = account.client("iam")

    class SimulatingAccount(Account):
        def client(self, service: str) -> Any:
            return iam if service == "iam" else super().client(service)

    stubber = Stubber(iam)
    active = {"UserName": "Invoker", "AccessKeyId": invoker, "Status": "Active"}
    stubber.add_response("get_access_key_last_used", {"UserName": "Invoker"})
    stubber.add_response("list_access_keys", {"AccessKeyMetadata": [active]})
    stubber.add_response("get_access_key_last_used", {"UserName": "Invoker"})
    results = [
        {"EvalActionName": action, "EvalDecision": decision}
        for action, decision in zip(INVOKE_ACTIONS, decisions, strict=True)
    ]
    parameters = {
        "PolicySourceArn": "arn:aws:iam::123456789012:user/Invoker",
        "ActionNames": list(INVOKE_ACTIONS),
        "ResourceArns": [
            f"arn:aws:lambda:{REGION}:123456789012:function:{OUTPUTS['FunctionName']}{':live' if snapstart else ''}"
        ],
        "ContextEntries": ANY,
    }
    stubber.add_response("simulate_principal_policy", {"EvaluationResults": results}, parameters)
    simulating = SimulatingAccount(account.session, account.id, account.arn, account.region)
    with stubber:
        permissions = result_of("permissions", doctor.explain_403(simulating, config.load().deployments["lambdiff"]))
    assert permissions.status == status
    assert words in permissions.detail
