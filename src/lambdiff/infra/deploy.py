"""`lambdiff deploy`: create an endpoint or update it.

preflight           fails within seconds if the deployment would fail after minutes (`preflight.py`)
fingerprint         if settings and content are those of the stack, there is nothing to do
toolchain           container engine and CDK CLI, fetched only if there is something to deploy
bootstrap           prepares a new account for CDK, after confirmation
cdk deploy          builds and pushes the image and updates the stack; CloudFormation rolls back a failed update
save                the deployment is saved once it exists
smoke test          checks health and generates an image, which gives the price of one
"""

from __future__ import annotations

import datetime

import msgspec
from msgspec import Struct

from lambdiff import config, pricing
from lambdiff.aws import account as accounts
from lambdiff.aws import stacks
from lambdiff.aws.account import Account
from lambdiff.config import Deployment
from lambdiff.errors import Cancelled, DeployError
from lambdiff.infra import build_context, smoke_test, toolchain
from lambdiff.infra.build_context import BuildContext
from lambdiff.infra.cdk_cli import Cdk
from lambdiff.infra.failures import MemoryCapped
from lambdiff.infra.preflight import DeployOptions, Prepared, fingerprint, prepare
from lambdiff.infra.settings import StackSettings
from lambdiff.stages import Confirm, Stages


class DeployResult(Struct, frozen=True, kw_only=True):
    """The result of a deployment, as `lambdiff deploy --json` prints it.

    Attributes:
        changed: whether anything in AWS was changed.
        notes: settings that differ from what the caller may expect.
        seconds_per_image, dollars_per_image: of the smoke test's image, cold start included; None without a smoke test.
        prices_as_of: the date of the price list.
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
    prices_as_of: str = pricing.DATE
    stages: dict[str, float] = {}


class DryRun(Struct, frozen=True, kw_only=True):
    """What a deployment would change, as `lambdiff deploy --dry-run --json` prints it.

    Attributes:
        summary: model, size, monthly price and name.
        diff: the changes to the stack, as the CDK CLI prints them.
        notes: settings that differ from what the caller may expect.
    """

    summary: str
    diff: str
    notes: list[str]


def deploy(options: DeployOptions, stages: Stages, confirm: Confirm) -> DeployResult:
    """Create an endpoint, or update it.

    Args:
        options: what to deploy.
        stages: shows the progress.
        confirm: asks before an account is bootstrapped and before anything is deployed.

    Raises:
        Cancelled: the caller declined, or pressed Ctrl-C.
        LambdiffError: the deployment failed. The next run continues from there.
    """
    prepared = prepare(options, stages)
    settings, notes = prepared.settings, list(prepared.notes)
    for note in notes:
        stages.say(f"          {note}")
    if prepared.unchanged and prepared.state and not options.force:
        stages.done()
        saved = _save(options, settings, prepared.state.outputs)
        return _result(saved, settings, notes, changed=False, stages=stages.times)
    cdk = _cdk(options, prepared, stages, confirm)
    if not confirm(f"Deploy {describe(settings, prepared.context)} to account {settings.account}, {settings.region}?"):
        raise Cancelled("Nothing was deployed.")
    settings, outputs = _update_stack(cdk, prepared, stages, confirm, notes)
    stages.done()
    saved = _save(options, settings, outputs)
    build_context.prune(prepared.context.folder)
    seconds = None
    if options.smoke_test and settings.reserved_concurrency != 0:
        seconds = smoke_test.run(saved, settings, stages, notes)
    stages.done()
    return _result(saved, settings, notes, changed=True, seconds=seconds, stages=stages.times)


def dry_run(options: DeployOptions, stages: Stages) -> DryRun:
    """Run the preflight and compare with the stack, without changing anything in AWS."""
    prepared = prepare(options, stages)
    stages.stage("Comparing with the stack")
    diff = Cdk(prepared.account, stages, log_name=f"deploy-{options.name}").diff(prepared.settings)
    stages.done()
    return DryRun(summary=describe(prepared.settings, prepared.context), diff=diff, notes=prepared.notes)


def describe(settings: StackSettings, staged: BuildContext) -> str:
    """Return one line for the question before a deployment: model, size, and the price when idle."""
    idle = 3 * pricing.ALARM_MONTH + staged.size / 1e9 * pricing.ECR_GB_MONTH
    idle += pricing.SECRET_MONTH if settings.auth == "key-pair" else 0
    snapstart = ""
    if settings.snapstart:
        idle += pricing.snapstart_month(settings.memory_mb)
        snapstart = f", SnapStart at {pricing.dollars(pricing.snapstart_restore(settings.memory_mb))} a restore"
    return (
        f"{settings.model} ({settings.engine}, {settings.memory_mb:,} MB, {settings.architecture}, "
        f"about {pricing.dollars(idle)} a month when idle{snapstart}) as {settings.stack_name}"
    )


def _cdk(options: DeployOptions, prepared: Prepared, stages: Stages, confirm: Confirm) -> Cdk:
    """Find the container engine, fetch the CDK CLI if necessary, and bootstrap the account if necessary."""
    stages.stage("Checking this machine")
    engine = toolchain.container_engine()
    stages.detail("fetching the CDK CLI")
    cdk = Cdk(prepared.account, stages, engine=engine, log_name=f"deploy-{options.name}")
    _bootstrap(prepared.account, cdk, stages, confirm)
    stages.done()
    return cdk


def _bootstrap(account: Account, cdk: Cdk, stages: Stages, confirm: Confirm) -> None:
    version = account.bootstrap_version()
    if version is not None and version >= accounts.MIN_BOOTSTRAP:
        return
    stages.done()
    where = f"account {account.id}, {account.region.value}"
    if not confirm(
        f"CDK needs a bucket, an image repository and roles in {where} (created once, free while empty). Create them?"
    ):
        raise DeployError(
            f"CDK is not bootstrapped in {where}.",
            fix="Confirm the question, or have an administrator run "
            f"`cdk bootstrap aws://{account.id}/{account.region.value}`.",
        )
    stages.stage("Bootstrapping the account for CDK")
    cdk.bootstrap()
    stages.done()


def _update_stack(
    cdk: Cdk, prepared: Prepared, stages: Stages, confirm: Confirm, notes: list[str]
) -> tuple[StackSettings, dict[str, str]]:
    """Deploy, and again with less memory if the account is capped; return the settings used and the outputs."""
    settings = prepared.settings
    try:
        stages.stage("Preparing the stack")
        try:
            return settings, cdk.deploy(settings)
        except MemoryCapped as error:
            settings = _with_capped_memory(prepared, error, confirm)
            notes.append(f"Memory is {settings.memory_mb:,} MB, the most that this account may have.")
        stages.stage("Preparing the stack")
        return settings, cdk.deploy(settings)
    except KeyboardInterrupt:
        stages.failed()
        raise Cancelled(
            "Interrupted; the deployment was not saved on this machine.",
            fix=f"If an update of the stack {settings.stack_name} has begun, it continues in AWS; see the "
            "CloudFormation console. Run `lambdiff deploy` again to continue.",
        ) from None


def _with_capped_memory(prepared: Prepared, error: MemoryCapped, confirm: Confirm) -> StackSettings:
    if error.limit >= prepared.settings.memory_mb or not confirm(
        f"Functions in this account may have at most {error.limit:,} MB. Deploy with that much?"
    ):
        raise error
    settings = msgspec.structs.replace(prepared.settings, memory_mb=error.limit)
    return msgspec.structs.replace(settings, fingerprint=fingerprint(settings, prepared.context.digest)).check()


def _save(options: DeployOptions, settings: StackSettings, outputs: dict[str, str]) -> Deployment:
    deployment = msgspec.structs.replace(
        stacks.to_deployment(
            settings.stack_name, outputs, name=options.name, region=settings.region, profile=options.profile
        ),
        model=settings.model,
        memory_mb=settings.memory_mb,
        timeout_s=settings.timeout_s,
        architecture=settings.architecture,
        deployed_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    config.save(deployment)
    return deployment


def _result(
    deployment: Deployment,
    settings: StackSettings,
    notes: list[str],
    *,
    changed: bool,
    stages: dict[str, float],
    seconds: float | None = None,
) -> DeployResult:
    price = None
    if seconds is not None:
        price = pricing.invocation(
            settings.memory_mb, seconds, architecture=settings.architecture, tmp_mb=settings.tmp_mb
        )
    return DeployResult(
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
