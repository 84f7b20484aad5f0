"""`lambdiff deploy`: preflight -> stage -> cdk -> outputs -> save -> smoke test.

account, region      fail in a second what would fail after minutes
model, context       the folder that the image is built from, under the hash of its content
fingerprint          the same settings and content as the stack's? Then there is nothing to do
toolchain, bootstrap only now, since they are not needed for nothing
cdk deploy           builds, pushes, updates; a refusal rolls back to what was there before
outputs, save        the deployment is remembered only once it exists
smoke test           health and one picture, and with it the price of one
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import msgspec
from msgspec import Struct

from lambdiff import config, pricing
from lambdiff.aws import account as accounts
from lambdiff.aws.account import Account
from lambdiff.config import Deployment
from lambdiff.errors import Cancelled, DeployError
from lambdiff.infra import build_context, smoke_test, toolchain
from lambdiff.infra.build_context import BuildContext
from lambdiff.infra.cdk_cli import Cdk
from lambdiff.infra.failures import MemoryCapped
from lambdiff.infra.preflight import DeployOptions, fingerprint, prepare
from lambdiff.infra.settings import StackSettings
from lambdiff.stages import Stages

Ask = Callable[[str], bool]


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of it; the form of `--json`.

    Attributes:
        changed: whether AWS was touched.
        seconds_per_image, dollars_per_image: of the smoke test's picture, a cold start; None without one.
        stages: seconds by stage.
    """

    name: str
    stack: str
    region: str
    account: str
    url: str
    function: str
    model: str
    engine: str
    memory_mb: int
    auth: str
    changed: bool
    notes: list[str]
    seconds_per_image: float | None = None
    dollars_per_image: float | None = None
    prices_of: str = pricing.DATE
    stages: dict[str, float] = {}


class DryRun(Struct, frozen=True, kw_only=True):
    """What a deployment would be; the form of `--dry-run --json`.

    Attributes:
        summary: model, size, price and name.
        diff: what would change, in the CDK CLI's words.
        notes: what is not as one might expect.
    """

    summary: str
    diff: str
    notes: list[str]


def deploy(wishes: DeployOptions, report: Stages, ask: Ask) -> Outcome:
    """Bring an endpoint into being, or up to date.

    Args:
        wishes: what to make.
        report: hears about the stages.
        ask: answers yes-or-no questions.

    Raises:
        LambdiffError: it failed; nothing is half-configured, and the next try takes up from there.
    """
    ready = prepare(wishes, report)
    settings, notes = ready.settings, list(ready.notes)
    for note in notes:
        report.say(f"          {note}")
    if ready.unchanged and not wishes.force:
        report.done()
        assert ready.state is not None  # noqa: S101 (unchanged means that there is a stack)
        saved = _save(wishes, settings, ready.state.outputs)
        return _outcome(saved, settings, notes, changed=False, stages=report.times)
    report.stage("Checking this machine")
    engine = toolchain.container_engine()
    report.detail("fetching the CDK CLI")
    cdk = Cdk(ready.account, report, engine=engine, name=f"deploy-{wishes.name}")
    _bootstrap(ready.account, cdk, report, ask)
    report.done()
    if not ask(f"Deploy {describe(settings, ready.context)} to account {settings.account}, {settings.region}?"):
        raise Cancelled("Nothing was deployed.")
    report.stage("Preparing the stack")
    try:
        outputs = cdk.deploy(settings)
    except MemoryCapped as capped:
        settings = _smaller(settings, capped, ready.context, ask, notes)
        report.stage("Preparing the stack")
        outputs = cdk.deploy(settings)
    except KeyboardInterrupt:
        report.failed()
        raise Cancelled(
            "Stopped; nothing was saved here.",
            fix=f"An update of the stack {settings.stack_name} that had begun goes on by itself, as CloudFormation's "
            "page in the AWS console shows. `lambdiff deploy` takes up from there.",
        ) from None
    report.done()
    saved = _save(wishes, settings, outputs)
    build_context.prune(ready.context.folder)
    seconds = None
    if wishes.smoke and settings.reserved_concurrency != 0:
        seconds = smoke_test.smoke(saved, settings, report, notes)
    report.done()
    return _outcome(saved, settings, notes, changed=True, seconds=seconds, stages=report.times)


def dry_run(wishes: DeployOptions, report: Stages) -> DryRun:
    """Everything up to the deployment itself, and then what it would change."""
    ready = prepare(wishes, report)
    report.stage("Comparing with the stack")
    changes = Cdk(ready.account, report, name=f"deploy-{wishes.name}").diff(ready.settings)
    report.done()
    return DryRun(summary=describe(ready.settings, ready.context), diff=changes, notes=ready.notes)


def describe(settings: StackSettings, staged: BuildContext) -> str:
    """One line for the question before a deployment: what, how large, and what it costs while nobody uses it."""
    idle = 3 * pricing.ALARM_MONTH + staged.size / 1e9 * pricing.ECR_GB_MONTH
    idle += pricing.SECRET_MONTH if settings.auth == "key-pair" else 0
    extra = ""
    if settings.snapstart:
        idle += pricing.snapstart_month(settings.memory_mb)
        restore = pricing.SNAPSTART_RESTORE_10_GB * settings.memory_mb / 10_240
        extra = f", SnapStart at {pricing.dollars(restore)} a restore"
    return (
        f"{settings.model} ({settings.engine}, {settings.memory_mb:,} MB, {settings.architecture}, "
        f"about {pricing.dollars(idle)} a month when idle{extra}) as {settings.stack_name}"
    )


def _bootstrap(account: Account, cdk: Cdk, report: Stages, ask: Ask) -> None:
    version = account.bootstrap_version()
    if version is not None and version >= accounts.MIN_BOOTSTRAP:
        return
    report.done()
    where = f"account {account.id}, {account.region.value}"
    if not ask(f"CDK needs a bucket, a registry and roles of its own in {where} (once, free while empty). Make them?"):
        raise DeployError(
            f"CDK is not prepared in {where}.",
            fix=f"Answer yes, or let an administrator run: cdk bootstrap aws://{account.id}/{account.region.value}",
        )
    report.stage("Preparing the account for CDK")
    cdk.bootstrap()
    report.done()


def _smaller(
    settings: StackSettings, capped: MemoryCapped, staged: BuildContext, ask: Ask, notes: list[str]
) -> StackSettings:
    if capped.limit >= settings.memory_mb or not ask(
        f"This account's functions may have at most {capped.limit:,} MB. Deploy again at that size?"
    ):
        raise capped
    notes.append(f"Memory is {capped.limit:,} MB, the most that this account may have.")
    smaller = msgspec.structs.replace(settings, memory_mb=capped.limit)
    return msgspec.structs.replace(smaller, fingerprint=fingerprint(smaller, staged.digest)).check()


def _save(wishes: DeployOptions, settings: StackSettings, outputs: dict[str, str]) -> Deployment:
    deployment = Deployment(
        name=wishes.name,
        url=outputs["LambdaUrl"],
        region=settings.region,
        auth=settings.auth,
        secret_arn=outputs.get("SecretArn"),
        role_arn=outputs.get("InvokerRoleArn"),
        stack=settings.stack_name,
        function_name=outputs["FunctionName"],
        profile=wishes.profile,
        model=settings.model,
        memory_mb=settings.memory_mb,
        timeout_s=settings.timeout_s,
        architecture=settings.architecture,
        deployed_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    config.save(deployment)
    return deployment


def _outcome(
    deployment: Deployment,
    settings: StackSettings,
    notes: list[str],
    *,
    changed: bool,
    stages: dict[str, float],
    seconds: float | None = None,
) -> Outcome:
    price = None
    if seconds is not None:
        price = pricing.invocation(
            settings.memory_mb, seconds, architecture=settings.architecture, tmp_mb=settings.tmp_mb
        )
    return Outcome(
        name=deployment.name,
        stack=settings.stack_name,
        region=settings.region,
        account=settings.account,
        url=deployment.url,
        function=deployment.function_name or "",
        model=settings.model,
        engine=settings.engine,
        memory_mb=settings.memory_mb,
        auth=settings.auth,
        changed=changed,
        notes=notes,
        seconds_per_image=None if seconds is None else round(seconds, 3),
        dollars_per_image=price,
        stages=stages,
    )
