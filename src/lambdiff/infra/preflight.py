"""Preflight: all checks that are possible before anything in AWS is changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from lambdiff import config
from lambdiff._version import __version__
from lambdiff.aws import account as accounts
from lambdiff.aws import function as functions
from lambdiff.aws import outputs, stacks
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import PermissionDenied, Rejected
from lambdiff.aws.stacks import StackState
from lambdiff.infra import base_image, build_context, toolchain
from lambdiff.infra import model as models
from lambdiff.infra.build_context import BuildContext
from lambdiff.infra.settings import DEFAULT_NAME, PLATFORMS, StackSettings, stack_name
from lambdiff.stages import Stages

DEFAULT_CONCURRENCY: Final = 10


@dataclass(frozen=True)
class DeployOptions:
    """What to deploy, and where.

    Attributes:
        name: the deployment's name.
        model: `built-in`, a baked folder, or a name in the catalogue.
        region: takes precedence over the environment and the profile.
        profile: an AWS profile.
        reserved_concurrency: requests that may run at once; None reserves `DEFAULT_CONCURRENCY` if the account's limit
            allows it.
        overrides: fields of `StackSettings` that differ from their defaults.
        force: deploy even if nothing has changed.
        smoke_test: generate an image at the end.
    """

    name: str = DEFAULT_NAME
    model: str = models.BUILT_IN
    region: str | None = None
    profile: str | None = None
    reserved_concurrency: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    force: bool = False
    smoke_test: bool = True


@dataclass(frozen=True)
class Prepared:
    """A deployment that has passed the preflight.

    Attributes:
        state: the stack as it is; None if it does not exist yet.
        notes: settings that differ from what the caller may expect.
    """

    account: Account
    context: BuildContext
    settings: StackSettings
    state: StackState | None
    notes: list[str]

    @property
    def unchanged(self) -> bool:
        """Whether the stack is already up to date."""
        state = self.state
        return bool(state and state.stable and state.outputs.get(outputs.FINGERPRINT) == self.settings.fingerprint)


def prepare(options: DeployOptions, stages: Stages) -> Prepared:
    """Check the account and the settings, and stage the build context.

    Raises:
        LambdiffError: the deployment would fail.
    """
    stages.stage("Checking the account")
    account = accounts.open_account(options.profile, options.region)
    state = stacks.read(account, stack_name(options.name))
    settings, notes = _settings(options, account, state)
    settings, more = _with_pinned_base_image(settings, state)
    notes += more
    stages.stage("Staging the image")
    model = models.model_folder(options.model, settings.engine, say=stages.say, progress=stages.detail)
    staged = build_context.stage(model, settings.engine)
    identity = staged.manifest.identity
    settings = msgspec.structs.replace(settings, model=f"{identity.name}@{identity.revision}")
    settings = msgspec.structs.replace(settings, fingerprint=fingerprint(settings, staged.digest))
    return Prepared(account, staged, msgspec.structs.replace(settings, context=str(staged.folder)), state, notes)


def fingerprint(settings: StackSettings, digest: str) -> str:
    """Return a short hash of the settings, the build context and the version of lambdiff."""
    everything = {**msgspec.structs.asdict(settings), "context": digest, "fingerprint": "", "lambdiff": __version__}
    return hashlib.sha256(msgspec.json.encode(everything, order="sorted")).hexdigest()[:16]


def _settings(options: DeployOptions, account: Account, state: StackState | None) -> tuple[StackSettings, list[str]]:
    """Return checked settings with placeholders for the model, so that a bad value is rejected before a long bake."""
    reserved, notes = _reservation(options, account, state)
    settings = StackSettings(
        account=account.id,
        region=account.region.value,
        name=options.name,
        context="",
        reserved_concurrency=reserved,
        **_with_memory(_with_principal(options.overrides, account), options.name, state),
    )
    return settings.check(), notes


def _with_pinned_base_image(settings: StackSettings, state: StackState | None) -> tuple[StackSettings, list[str]]:
    """Replace the tag of the base image by its digest, and say if that differs from the last deployment's."""
    recorded = state.outputs.get(outputs.BASE_IMAGE) if state else None
    pinned = base_image.pin(
        settings.base_image,
        recorded=recorded,
        engine=toolchain.container_engine,
        platform=PLATFORMS[settings.architecture],
    )
    notes = [pinned.note] if pinned.note else []
    if recorded and base_image.replaces(pinned.image, recorded):
        notes.append(
            f"{pinned.image.name}:{pinned.image.tag} has changed since the last deployment, which had {recorded}."
        )
    return msgspec.structs.replace(settings, base_image=pinned.address, base_image_pin=str(pinned.image)), notes


def _with_principal(overrides: dict[str, Any], account: Account) -> dict[str, Any]:
    if overrides.get("auth") == "role" and not overrides.get("principals"):
        return {**overrides, "principals": (account.principal,)}
    return overrides


def _with_memory(overrides: dict[str, Any], name: str, state: StackState | None) -> dict[str, Any]:
    # Keep the memory of the last deployment: an account that is capped below the default would reject it every time.
    saved = config.load().deployments.get(name)
    if "memory_mb" in overrides or state is None or saved is None or saved.memory_mb is None:
        return overrides
    return {**overrides, "memory_mb": saved.memory_mb}


def _reservation(options: DeployOptions, account: Account, state: StackState | None) -> tuple[int | None, list[str]]:
    """Return the concurrency to reserve, and a note if nothing can be reserved."""
    wanted = DEFAULT_CONCURRENCY if options.reserved_concurrency is None else options.reserved_concurrency
    current = _reserved_now(account, state.outputs.get(outputs.FUNCTION_NAME) if state else None)
    if options.reserved_concurrency is None and account.concurrency() is None:
        # Keep the current reservation: AWS might reject a guess, after the image has been built.
        note = "Concurrency is not limited: the account's limit may not be read (lambda:GetAccountSettings)."
        return current or None, [] if current else [note]
    reserved = account.reservable(wanted, current)
    if reserved is None:
        return None, [
            f"Concurrency is not limited: reserving {wanted} would leave the account fewer than "
            f"{accounts.MIN_UNRESERVED} unreserved executions."
        ]
    return reserved, []


def _reserved_now(account: Account, function: str | None) -> int:
    if function is None:
        return 0
    try:
        return functions.reserved_concurrency(account, function) or 0
    except (PermissionDenied, Rejected):
        return 0
