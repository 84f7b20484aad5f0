"""`lambdiff deploy --export`: what would be deployed, as a folder that a pipeline reviews and deploys.

The folder is a CDK cloud assembly: the template of the stack, and the build context of the image. If the account and
the region are given, AWS is not called.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from lambdiff import config
from lambdiff.aws import account as accounts
from lambdiff.aws import principals
from lambdiff.bake.output_folder import scratch_folder
from lambdiff.errors import InvalidRequest, OutputError
from lambdiff.files import exists, unwritable, write_atomically
from lambdiff.infra import (
    base_image,
    build_context,
    failures,
    guarded_process,
    offline_checks,
    toolchain,
)
from lambdiff.infra import model as models
from lambdiff.infra import settings as stack_settings
from lambdiff.infra.preflight import DEFAULT_CONCURRENCY, DeployOptions, fingerprint, with_implied
from lambdiff.infra.settings import StackSettings
from lambdiff.stages import Stages


class Exported(Struct, frozen=True, kw_only=True):
    """What `lambdiff deploy --export --json` prints.

    Attributes:
        folder: the cloud assembly.
        notes: settings that differ from what the caller may expect.
    """

    folder: str
    stack: str
    account: str
    region: str
    model: str
    notes: list[str]


def export(options: DeployOptions, folder: Path, stages: Stages, *, account_id: str | None = None) -> Exported:
    """Write a cloud assembly.

    Settings that a deployed stack would keep are unknown here, so that everything depends on the options alone.

    Args:
        options: what to deploy; `region` is required with `account_id`.
        folder: must not exist.
        stages: shows the progress.
        account_id: the account; None for that of the AWS identity.

    Raises:
        InvalidRequest: an option is out of range or missing.
        OutputError: the folder exists or cannot be written.
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
    folder = folder.expanduser()
    _check_free(folder)
    if account_id is not None and options.region is None:
        raise InvalidRequest("`account=` requires `region=`, because AWS is not asked.")
    region = accounts.find_region(options.profile, options.region)
    notes = offline_checks.check_function_urls(region, force=options.force)
    if account_id is None:
        stages.stage("Checking the account")
        account = accounts.open_account(options.profile, options.region)
        account_id = account.id
        if overrides.get("auth") == "role" and not overrides.get("principals"):
            overrides = {**overrides, "principals": (principals.of_caller(account),)}
    concurrency = DEFAULT_CONCURRENCY if options.reserved_concurrency is None else options.reserved_concurrency
    settings = StackSettings(
        account=account_id,
        region=region.value,
        name=options.name,
        context="",
        reserved_concurrency=concurrency,
        **overrides,
    ).check()
    with scratch_folder(folder) as scratch:  # now, because a model may take minutes to bake
        settings = _stage(options, settings, stages, notes)
        stages.stage("Synthesizing the stack")
        (scratch / "temporary").mkdir()
        _synthesize(settings, scratch / "assembly", scratch / "temporary")
        (scratch / "assembly").rename(folder)
    stages.done()
    return Exported(
        folder=str(folder),
        stack=settings.stack_name,
        account=account_id,
        region=settings.region,
        model=settings.model,
        notes=notes,
    )


def _check_free(folder: Path) -> None:
    try:
        taken = exists(folder)
    except (OSError, ValueError) as error:
        raise unwritable(folder, error) from None
    if taken:
        raise OutputError(f"{folder} already exists.", fix="Choose another folder, or delete this one.")


def _stage(options: DeployOptions, settings: StackSettings, stages: Stages, notes: list[str]) -> StackSettings:
    """Pin the base image and stage the build context; return the complete settings."""
    stages.stage("Staging the image")
    pinned = base_image.pin(settings.base_image)
    notes += [pinned.note] if pinned.note else []
    model = models.model_folder(options.model, settings.engine, say=stages.say, progress=stages.detail)
    staged = build_context.stage(model, settings.engine)
    notes += models.check_memory(staged.manifest, settings.memory_mb, force=options.force)
    identity = staged.manifest.identity
    settings = msgspec.structs.replace(
        settings,
        model=f"{identity.name}@{identity.revision}",
        base_image=pinned.address,
        base_image_pin=str(pinned.image),
    )
    settings = msgspec.structs.replace(settings, fingerprint=fingerprint(settings, staged.digest))
    return msgspec.structs.replace(settings, context=str(staged.folder))


def _synthesize(settings: StackSettings, folder: Path, temporary: Path) -> None:
    """Run the CDK app as the CDK CLI does: with Node from its wheel, and in a process that can be stopped."""
    environment = {
        **os.environ,
        **toolchain.environment(),
        stack_settings.VARIABLE: settings.to_json(),
        "CDK_OUTDIR": str(folder.absolute()),
    }
    command = [sys.executable, "-m", "lambdiff.infra.cdk_app"]
    with guarded_process.start(command, temporary, environment) as process:
        output = process.stdout.read() if process.stdout else ""
    if process.returncode != 0:
        log = config.home() / "logs" / f"export-{settings.name}.log"
        write_atomically(log, output.encode(), force=True, mode=0o600)
        raise failures.explain(output, "The synthesis", str(log))
