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
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import Struct

from lambdiff import config
from lambdiff._version import __version__
from lambdiff.config import Deployment
from lambdiff.errors import AccessDenied, Cancelled, CredentialsError, DeployError, LambdiffError
from lambdiff.infra import account as accounts
from lambdiff.infra import choose, context, prices, stackstate, toolchain
from lambdiff.infra.account import Account
from lambdiff.infra.cdk import Cdk
from lambdiff.infra.context import Context
from lambdiff.infra.failures import MemoryCapped
from lambdiff.infra.report import Report
from lambdiff.infra.settings import DEFAULT_NAME, StackSettings, stack_name

DEFAULT_CONCURRENCY: Final = 10
SMOKE_PROMPT: Final = "a cat in a top hat"
KEY_PATIENCE: Final = 90.0
"""Seconds that a new access key may take until every part of AWS knows it."""

Ask = Callable[[str], bool]


@dataclass(frozen=True)
class Wishes:
    """What the caller wants.

    Attributes:
        model: `built-in`, a baked folder, or a name of the catalogue.
        options: fields of `StackSettings`; what is absent has its default.
        reserve: reserved concurrency; None for the default, where the account can spare it.
        force: deploy even if nothing has changed.
        smoke: draw a picture at the end.
    """

    name: str = DEFAULT_NAME
    model: str = choose.BUILT_IN
    region: str | None = None
    profile: str | None = None
    reserve: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    force: bool = False
    smoke: bool = True


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
    prices_of: str = prices.DATE
    stages: dict[str, float] = {}


@dataclass(frozen=True)
class Prepared:
    """A deployment that has passed everything that can be checked without changing anything."""

    account: Account
    context: Context
    settings: StackSettings
    state: stackstate.StackState | None
    notes: list[str]

    @property
    def unchanged(self) -> bool:
        """Whether the stack is what would be deployed."""
        state = self.state
        return bool(state and state.at_rest and state.outputs.get("Fingerprint") == self.settings.fingerprint)


def prepare(wishes: Wishes, report: Report) -> Prepared:
    """Check the account and stage the image.

    Raises:
        LambdiffError: whatever stands in the way.
    """
    report.stage("Checking the account")
    account = accounts.open_account(wishes.profile, wishes.region)
    state = stackstate.read(account, stack_name(wishes.name))
    options = _with_memory(_with_principal(wishes.options, account), wishes.name, state)
    reserved, notes = _reserve(wishes, account, state)
    # Once with placeholders: bad settings are refused before a model is baked.
    settings = StackSettings(
        account=account.id,
        region=account.region.value,
        name=wishes.name,
        context="",
        reserved_concurrency=reserved,
        **options,
    ).check()
    report.stage("Staging the image")
    model = choose.model_folder(wishes.model, settings.engine, say=report.detail)
    staged = context.stage(model, settings.engine)
    identity = staged.manifest.identity
    settings = msgspec.structs.replace(settings, model=f"{identity.name}@{identity.revision}")
    settings = msgspec.structs.replace(settings, fingerprint=fingerprint(settings, staged.digest))
    return Prepared(account, staged, msgspec.structs.replace(settings, context=str(staged.folder)), state, notes)


def deploy(wishes: Wishes, report: Report, ask: Ask) -> Outcome:
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
            fix="A stack update that had begun goes on by itself. `lambdiff deploy` takes up from there.",
        ) from None
    report.done()
    saved = _save(wishes, settings, outputs)
    context.prune(ready.context.folder)
    seconds = None
    if wishes.smoke and settings.reserved_concurrency != 0:
        seconds = _smoke(saved, settings, report, notes)
    report.done()
    return _outcome(saved, settings, notes, changed=True, seconds=seconds, stages=report.times)


def dry_run(wishes: Wishes, report: Report) -> str:
    """Everything up to the deployment itself, and then what it would change, in the CDK CLI's words."""
    ready = prepare(wishes, report)
    report.stage("Comparing with the stack")
    changes = Cdk(ready.account, report, name=f"deploy-{wishes.name}").diff(ready.settings)
    report.done()
    return f"{describe(ready.settings, ready.context)}\n{changes}"


def fingerprint(settings: StackSettings, digest: str) -> str:
    """A short hash of everything that decides what the stack is."""
    everything = {**msgspec.structs.asdict(settings), "context": digest, "fingerprint": "", "lambdiff": __version__}
    return hashlib.sha256(msgspec.json.encode(everything, order="sorted")).hexdigest()[:16]


def describe(settings: StackSettings, staged: Context) -> str:
    """One line for the question before a deployment: what, how large, and what it costs while nobody uses it."""
    idle = 3 * prices.ALARM_MONTH + staged.size / 1e9 * prices.ECR_GB_MONTH
    idle += prices.SECRET_MONTH if settings.auth == "key-pair" else 0
    extra = ""
    if settings.snapstart:
        idle += prices.snapstart_month(settings.memory_mb)
        restore = prices.SNAPSTART_RESTORE_10_GB * settings.memory_mb / 10_240
        extra = f", SnapStart at {prices.dollars(restore)} a restore"
    return (
        f"{settings.model} ({settings.engine}, {settings.memory_mb:,} MB, {settings.architecture}, "
        f"about {prices.dollars(idle)} a month when idle{extra}) as {settings.stack_name}"
    )


def _with_principal(options: dict[str, Any], account: Account) -> dict[str, Any]:
    if options.get("auth") == "role" and not options.get("principals"):
        return {**options, "principals": (account.principal,)}
    return options


def _with_memory(options: dict[str, Any], name: str, state: stackstate.StackState | None) -> dict[str, Any]:
    # Otherwise an account that is capped at less than the default would refuse the default again every time.
    known = config.load().deployments.get(name)
    if "memory_mb" in options or state is None or known is None or known.memory_mb is None:
        return options
    return {**options, "memory_mb": known.memory_mb}


def _reserve(wishes: Wishes, account: Account, state: stackstate.StackState | None) -> tuple[int | None, list[str]]:
    wanted = DEFAULT_CONCURRENCY if wishes.reserve is None else wishes.reserve
    function = state.outputs.get("FunctionName") if state else None
    already = _reserved_now(account, function) if function else 0
    reserved = account.reservation(wanted, already)
    if reserved is None:
        return None, [
            f"Concurrency is not limited: reserving {wanted} would leave the account fewer than "
            f"{accounts.KEEP_UNRESERVED} unreserved executions."
        ]
    return reserved, []


def _reserved_now(account: Account, function: str) -> int:
    from botocore.exceptions import ClientError

    try:
        answer = account.client("lambda").get_function_concurrency(FunctionName=function)
    except ClientError:
        return 0
    return int(answer.get("ReservedConcurrentExecutions", 0))


def _bootstrap(account: Account, cdk: Cdk, report: Report, ask: Ask) -> None:
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
    settings: StackSettings, capped: MemoryCapped, staged: Context, ask: Ask, notes: list[str]
) -> StackSettings:
    if capped.limit >= settings.memory_mb or not ask(
        f"This account's functions may have at most {capped.limit:,} MB. Deploy again at that size?"
    ):
        raise capped
    notes.append(f"Memory is {capped.limit:,} MB, the most that this account may have.")
    smaller = msgspec.structs.replace(settings, memory_mb=capped.limit)
    return msgspec.structs.replace(smaller, fingerprint=fingerprint(smaller, staged.digest)).check()


def _save(wishes: Wishes, settings: StackSettings, outputs: dict[str, str]) -> Deployment:
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


def _smoke(deployment: Deployment, settings: StackSettings, report: Report, notes: list[str]) -> float | None:
    from lambdiff.client import Client

    report.stage("Asking the endpoint for its health")
    try:
        with Client(deployment=deployment.name, profile=deployment.profile) as client:
            health = _patiently(client.health, report)
            report.stage(f"Drawing {SMOKE_PROMPT}")
            image = client.generate(SMOKE_PROMPT, seed=1)
    except CredentialsError as error:
        if settings.auth != "role":
            raise
        notes.append(f"Not tested: {error.message} {error.fix}")
        return None
    except LambdiffError as error:
        report.failed()
        error.fix = f"{error.fix} The stack is there: `lambdiff logs` shows what the function said.".strip()
        raise
    served = f"{health.model.name}@{health.model.revision}"
    if served != settings.model:
        raise DeployError(
            f"The endpoint serves {served}, not {settings.model}.", fix="Deploy again with --force; else report a bug."
        )
    # What the caller waited: a little more than what is billed, the cold start included.
    return image.timings["total"]


def _patiently(call: Callable[[], Any], report: Report) -> Any:
    """Repeat a health check, which costs nothing, while a new key is not known everywhere."""
    give_up = time.monotonic() + KEY_PATIENCE
    while True:
        try:
            return call()
        except AccessDenied:
            if time.monotonic() > give_up:
                raise
            report.detail("AWS does not know the new key yet")
            time.sleep(3)


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
        price = prices.invocation(
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
