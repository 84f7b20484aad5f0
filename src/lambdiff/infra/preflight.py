"""Preflight: all checks that are possible before anything in AWS is changed, and those without AWS come first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from lambdiff import config
from lambdiff._version import __version__
from lambdiff.aws import account as accounts
from lambdiff.aws import function as functions
from lambdiff.aws import networks, outputs, policies, principals
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import PermissionDenied, Rejected
from lambdiff.aws.stacks import StackState
from lambdiff.infra import base_image, build_context, existing_stack, offline_checks, toolchain
from lambdiff.infra import model as models
from lambdiff.infra.build_context import BuildContext
from lambdiff.infra.existing_stack import ExistingStack
from lambdiff.infra.settings import DEFAULT_NAME, PLATFORMS, BuilderName, SettingOverrides, StackSettings, stack_name
from lambdiff.infra.toolchain import Tool
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
        overrides: fields of `StackSettings` that differ from their defaults, or from what an existing stack keeps; see
            `ExistingStack`. Naming `principals` implies `auth="role"`.
        builder: what builds the image; see `builder.choose`.
        force: deploy even if nothing has changed, if the region is not known to have Function URLs, or if the memory
            that the model needs, by an estimate, is more than the function's.
        smoke_test: generate an image at the end.
    """

    name: str = DEFAULT_NAME
    model: str = models.BUILT_IN
    region: str | None = None
    profile: str | None = None
    reserved_concurrency: int | None = None
    overrides: SettingOverrides = field(default_factory=SettingOverrides)
    builder: BuilderName = "auto"
    force: bool = False
    smoke_test: bool = True


@dataclass(frozen=True)
class Prepared:
    """A deployment that has passed the preflight.

    Attributes:
        state: the stack as it is; None if it does not exist yet.
        losses: what callers lose if the stack is updated, one sentence each; see `ExistingStack.replacements`.
        notes: settings that differ from what the caller may expect.
    """

    account: Account
    context: BuildContext
    settings: StackSettings
    state: StackState | None
    losses: list[str]
    notes: list[str]

    @property
    def unchanged(self) -> bool:
        """Whether the stack is already up to date."""
        state = self.state
        return bool(state and state.stable and state.outputs.get(outputs.FINGERPRINT) == self.settings.fingerprint)


def prepare(
    options: DeployOptions,
    stages: Stages,
    before_bake: Callable[[Account, StackSettings], object] = lambda *_: None,
) -> Prepared:
    """Check the account and the settings, and stage the build context.

    Args:
        options: what to deploy.
        stages: shows the progress.
        before_bake: called before a model is baked, for what may fail or be declined afterwards.

    Raises:
        LambdiffError: the deployment would fail.
    """
    overrides = with_implied(options.overrides)
    offline_checks.check(
        name=options.name,
        model=options.model,
        region=options.region,
        reserved_concurrency=options.reserved_concurrency,
        overrides=overrides,
    )
    config.require_home()
    region = accounts.find_region(options.profile, options.region)
    notes = offline_checks.check_function_urls(region, force=options.force)
    stages.stage("Checking the account")
    account = accounts.open_account(options.profile, options.region)
    existing = existing_stack.read(account, stack_name(options.name), stages)
    settings = _settings(options, overrides, account, existing, notes)
    deployed = existing.state if isinstance(existing, ExistingStack) else None
    local = options.builder != "codebuild"
    settings = _with_pinned_base_image(settings, deployed, notes, engine=toolchain.container_engine if local else None)
    stages.stage("Staging the image")
    model = models.model_folder(
        options.model,
        settings.engine,
        before_bake=lambda: before_bake(account, settings),
        say=stages.say,
        progress=stages.detail,
    )
    staged = build_context.stage(model, settings.engine)
    notes += models.check_memory(staged.manifest, settings.memory_mb, force=options.force)
    identity = staged.manifest.identity
    settings = msgspec.structs.replace(settings, model=f"{identity.name}@{identity.revision}")
    settings = msgspec.structs.replace(settings, fingerprint=fingerprint(settings, staged.digest))
    settings = msgspec.structs.replace(settings, context=str(staged.folder))
    state = existing.state if isinstance(existing, ExistingStack) else existing
    return Prepared(account, staged, settings, state, list(_losses(account, settings, existing)), notes)


def fingerprint(settings: StackSettings, digest: str) -> str:
    """Return a short hash of the settings, the build context and the version of lambdiff.

    What builds the image makes no difference.
    """
    everything = {**msgspec.structs.asdict(settings), "context": digest, "fingerprint": "", "lambdiff": __version__}
    everything["image"] = ""
    return hashlib.sha256(msgspec.json.encode(everything, order="sorted")).hexdigest()[:16]


def with_implied(overrides: SettingOverrides) -> SettingOverrides:
    """Return the overrides with `auth="role"` if they name principals, and with `batch=True` if they configure it."""
    implied: SettingOverrides = {}
    if overrides.get("principals"):
        implied["auth"] = "role"
    if "batch_memory_mb" in overrides or "batch_timeout_s" in overrides:
        implied["batch"] = True
    return {**implied, **overrides}


def _settings(
    options: DeployOptions,
    overrides: SettingOverrides,
    account: Account,
    existing: ExistingStack | StackState | None,
    notes: list[str],
) -> StackSettings:
    """Return checked settings with placeholders for the model, so that a bad value is rejected before a long bake."""
    deployed = existing if isinstance(existing, ExistingStack) else None
    chosen: dict[str, Any] = {**(deployed.kept_settings(overrides) if deployed else {}), **overrides}
    if chosen.get("auth") == "role" and not chosen.get("principals"):
        chosen["principals"] = (principals.of_caller(account),)
    elif "principals" in overrides:
        notes += principals.check(account, tuple(chosen["principals"]))
    if boundary := overrides.get("permissions_boundary"):
        notes += policies.check_boundary(account, boundary)
    if "vpc_subnets" in overrides:
        notes += networks.check(account, overrides["vpc_subnets"], overrides.get("vpc_security_groups", ()))
    return StackSettings(
        account=account.id,
        region=account.region.value,
        name=options.name,
        context="",
        reserved_concurrency=_reservation(options, account, deployed, notes),
        **chosen,
    ).check()


def _with_pinned_base_image(
    settings: StackSettings, deployed: StackState | None, notes: list[str], engine: Callable[[], Tool] | None
) -> StackSettings:
    """Replace the tag of the base image by its digest; add a note if that differs from the last deployment's."""
    recorded = deployed.outputs.get(outputs.BASE_IMAGE) if deployed else None
    pinned = base_image.pin(
        settings.base_image,
        recorded=recorded,
        engine=engine,
        platform=PLATFORMS[settings.architecture],
    )
    if pinned.note:
        notes.append(pinned.note)
    if recorded and base_image.replaces(pinned.image, recorded):
        notes.append(
            f"{pinned.image.name}:{pinned.image.tag} has changed since the last deployment, which had {recorded}."
        )
    return msgspec.structs.replace(settings, base_image=pinned.address, base_image_pin=str(pinned.image))


def _losses(account: Account, settings: StackSettings, existing: ExistingStack | StackState | None) -> Iterator[str]:
    if isinstance(existing, ExistingStack):
        yield from existing.replacements(settings)
    elif existing is not None and existing.never_created:
        existing_stack.check_deletable(account, existing)
        yield f"The stack {existing.name} was never complete ({existing}); it is deleted and created again."
    saved = config.load().deployments.get(settings.name)
    if saved and (saved.region, saved.stack) != (settings.region, settings.stack_name):
        yield (
            f"This machine forgets the deployment {saved.name} in {saved.region} ({saved.url}), whose name is taken; "
            "nothing there is deleted."
        )


def _reservation(
    options: DeployOptions, account: Account, deployed: ExistingStack | None, notes: list[str]
) -> int | None:
    """Return the concurrency to reserve; add a note if nothing can be reserved."""
    wanted = DEFAULT_CONCURRENCY if options.reserved_concurrency is None else options.reserved_concurrency
    current = _reserved_now(account, deployed.state.outputs.get(outputs.FUNCTION_NAME) if deployed else None)
    if options.reserved_concurrency is None and account.concurrency() is None:
        # Keep the current reservation: AWS might reject a guess, after the image has been built.
        if not current:
            notes.append("Concurrency is not limited: the account's limit may not be read (lambda:GetAccountSettings).")
        return current or None
    reserved = account.reservable(wanted, current)
    if reserved is None:
        notes.append(
            f"Concurrency is not limited: reserving {wanted} would leave the account fewer than "
            f"{accounts.MIN_UNRESERVED} unreserved executions."
        )
    return reserved


def _reserved_now(account: Account, function: str | None) -> int:
    if function is None:
        return 0
    try:
        return functions.reserved_concurrency(account, function) or 0
    except (PermissionDenied, Rejected):
        return 0
