"""The preflight of a deployment: everything that can be found out before anything is changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from lambdiff import config
from lambdiff._version import __version__
from lambdiff.aws import account as accounts
from lambdiff.aws import stacks
from lambdiff.aws.account import Account
from lambdiff.infra import build_context
from lambdiff.infra import model as models
from lambdiff.infra.build_context import BuildContext
from lambdiff.infra.settings import DEFAULT_NAME, StackSettings, stack_name
from lambdiff.stages import Stages

DEFAULT_CONCURRENCY: Final = 10


@dataclass(frozen=True)
class DeployOptions:
    """What the caller wants.

    Attributes:
        model: `built-in`, a baked folder, or a name of the catalogue.
        options: fields of `StackSettings`; what is absent has its default.
        reserve: reserved concurrency; None for the default, where the account can spare it.
        force: deploy even if nothing has changed.
        smoke: draw a picture at the end.
    """

    name: str = DEFAULT_NAME
    model: str = models.BUILT_IN
    region: str | None = None
    profile: str | None = None
    reserve: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    force: bool = False
    smoke: bool = True


@dataclass(frozen=True)
class Prepared:
    """A deployment that has passed everything that can be checked without changing anything."""

    account: Account
    context: BuildContext
    settings: StackSettings
    state: stacks.StackState | None
    notes: list[str]

    @property
    def unchanged(self) -> bool:
        """Whether the stack is what would be deployed."""
        state = self.state
        return bool(state and state.at_rest and state.outputs.get("Fingerprint") == self.settings.fingerprint)


def prepare(wishes: DeployOptions, report: Stages) -> Prepared:
    """Check the account and stage the image.

    Raises:
        LambdiffError: whatever stands in the way.
    """
    report.stage("Checking the account")
    account = accounts.open_account(wishes.profile, wishes.region)
    state = stacks.read(account, stack_name(wishes.name))
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
    model = models.model_folder(wishes.model, settings.engine, say=report.say, progress=report.detail)
    staged = build_context.stage(model, settings.engine)
    identity = staged.manifest.identity
    settings = msgspec.structs.replace(settings, model=f"{identity.name}@{identity.revision}")
    settings = msgspec.structs.replace(settings, fingerprint=fingerprint(settings, staged.digest))
    return Prepared(account, staged, msgspec.structs.replace(settings, context=str(staged.folder)), state, notes)


def fingerprint(settings: StackSettings, digest: str) -> str:
    """A short hash of everything that decides what the stack is."""
    everything = {**msgspec.structs.asdict(settings), "context": digest, "fingerprint": "", "lambdiff": __version__}
    return hashlib.sha256(msgspec.json.encode(everything, order="sorted")).hexdigest()[:16]


def _with_principal(options: dict[str, Any], account: Account) -> dict[str, Any]:
    if options.get("auth") == "role" and not options.get("principals"):
        return {**options, "principals": (account.principal,)}
    return options


def _with_memory(options: dict[str, Any], name: str, state: stacks.StackState | None) -> dict[str, Any]:
    # Otherwise an account that is capped at less than the default would refuse the default again every time.
    known = config.load().deployments.get(name)
    if "memory_mb" in options or state is None or known is None or known.memory_mb is None:
        return options
    return {**options, "memory_mb": known.memory_mb}


def _reserve(wishes: DeployOptions, account: Account, state: stacks.StackState | None) -> tuple[int | None, list[str]]:
    wanted = DEFAULT_CONCURRENCY if wishes.reserve is None else wishes.reserve
    function = state.outputs.get("FunctionName") if state else None
    already = _reserved_now(account, function) if function else 0
    if wishes.reserve is None and account.concurrency() is None:
        # What was granted before is kept; a guess could be refused after the image was built.
        return already or None, [] if already else [
            "Concurrency is not limited: how much the account has may not be read (lambda:GetAccountSettings)."
        ]
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
