"""Builds the image in AWS CodeBuild, for machines without a container engine.

    builder stack      created first, in `builder_stack.py`; left alone if it is up to date
    repository         an image of the same content is not built again
    upload             the staged context, as one archive; deleted after the build
    build              in CodeBuild, whose log is shown and kept as if it ran here
    image              by digest, for the stack of the endpoint

An interruption stops the build. After a crash it goes on, and the next run waits for it, or finds its image.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdiff import pricing
from lambdiff.aws import buckets, builds, images, logs, outputs, stacks
from lambdiff.aws.account import Account
from lambdiff.aws.builds import Build
from lambdiff.aws.error_mapping import Rejected
from lambdiff.aws.stacks import StackState
from lambdiff.errors import ConfigurationError, DeployError, ToolchainError
from lambdiff.infra import existing_stack, failures, toolchain
from lambdiff.infra.build_context import BuildContext
from lambdiff.infra.cdk_cli import BUILDING, PUSHING, Cdk, detail_of
from lambdiff.infra.settings import BUILD_MINUTES, PLATFORMS, BuilderName, StackSettings, builder_stack_name
from lambdiff.infra.toolchain import Tool
from lambdiff.stages import Confirm, Stages
from lambdiff.temporary import temporary_path

PREPARING: Final = "Preparing CodeBuild"
UPLOADING: Final = "Uploading the build context"
STARTING: Final = "Starting CodeBuild"
_POLL_SECONDS: Final = 2.0
_LOG_DELAY: Final = 3
"""How often the log is read after the end of a build: its last lines arrive late."""
_STORED: Final = 1_000_000
"""Files above this number of bytes are weights, which do not get smaller by compression."""


@dataclass(frozen=True)
class Builder:
    """A builder stack that exists.

    Attributes:
        repository: the address of the image repository, without a tag.
        fingerprint: see `fingerprint`.
    """

    stack: str
    project: str
    bucket: str
    repository: str
    fingerprint: str


def choose(wanted: BuilderName, account: Account, settings: StackSettings, confirm: Confirm) -> Tool | None:
    """Return the container engine that builds the image, or None for CodeBuild.

    Args:
        wanted: `local`, `codebuild`, or `auto`: what built the last image; for the first one, the container engine if
            one answers, and CodeBuild if not and the caller agrees.
        account: the account.
        settings: those of the endpoint.
        confirm: asks before CodeBuild takes the place of a missing container engine.

    Raises:
        ToolchainError: no container engine answers, and the caller does not want CodeBuild.
    """
    if wanted == "codebuild" or (wanted == "auto" and find(account, settings.name)):
        return None
    try:
        return toolchain.container_engine()
    except ToolchainError as error:
        if wanted == "local":
            raise
        if confirm(f"{error.message} Build the image in AWS CodeBuild, for {price(settings)}?"):
            return None
        error.fix = f"{error.fix} Or let CodeBuild do it: `builder=codebuild`."
        raise


def read(account: Account, name: str) -> StackState | None:
    """Return the builder stack of a deployment, in whatever state; None if it has none, or if it is not lambdiff's."""
    state = stacks.read(account, builder_stack_name(name))
    return state if state and state.ours else None


def find(account: Account, name: str) -> Builder | None:
    """Return the builder of a deployment, or None if it has none, or an incomplete one."""
    state = read(account, name)
    if state is None or not state.stable or outputs.BUILDER_PROJECT not in state.outputs:
        return None
    return Builder(
        stack=state.name,
        project=state.outputs[outputs.BUILDER_PROJECT],
        bucket=state.outputs[outputs.BUILDER_BUCKET],
        repository=state.outputs[outputs.BUILDER_REPOSITORY],
        fingerprint=state.outputs[outputs.FINGERPRINT],
    )


def fingerprint(settings: StackSettings) -> str:
    """Return a hash of what a builder stack is made from: its template, and the settings that it depends on."""
    template = (Path(__file__).parent / "builder_stack.py").read_bytes()
    depends_on = (
        settings.architecture,
        settings.qualifier,
        settings.permissions_boundary,
        sorted(settings.tags.items()),
    )
    parts = json.dumps(depends_on).encode()
    return hashlib.sha256(template + parts).hexdigest()[:16]


def price(settings: StackSettings) -> str:
    """Return what a build costs, for the question before it."""
    minute = pricing.BUILD_MINUTE[settings.architecture]
    return f"${minute} a minute, at most ${minute * BUILD_MINUTES:.2f}"


def find_image(account: Account, settings: StackSettings, context: BuildContext) -> str | None:
    """Return the address of the image by digest, if it has been built; None if not."""
    builder = find(account, settings.name)
    if builder is None:
        return None
    return _address(account, builder, _tag(settings, context))


def build(account: Account, cdk: Cdk, settings: StackSettings, context: BuildContext, stages: Stages) -> str:
    """Return the address of the image by digest, built by CodeBuild unless it exists.

    Args:
        account: the account.
        cdk: creates or updates the builder stack.
        settings: those of the endpoint.
        context: the staged folder.
        stages: shows the progress.

    Raises:
        DeployError: the image could not be built.
        CredentialsError: a permission is missing.
    """
    stages.stage(PREPARING)
    builder = _ensure(account, cdk, settings, stages)
    tag = _tag(settings, context)
    address = _address(account, builder, tag)
    if address is None:
        _BuildRun(account, builder, cdk.log, stages).run(context, tag, _variables(settings, tag))
        address = _address(account, builder, tag)
    if address is None:
        raise DeployError(f"CodeBuild has not pushed {builder.repository}:{tag}.", fix=f"See {cdk.log}.")
    return address


def _ensure(account: Account, cdk: Cdk, settings: StackSettings, stages: Stages) -> Builder:
    """Create or update the builder stack, unless it is up to date."""
    name, wanted = builder_stack_name(settings.name), fingerprint(settings)
    state = stacks.wait_until_idle(account, name, seen=lambda each: stages.detail(each.status))
    if state and not state.ours:
        raise ConfigurationError(
            f"The stack {name} was not created by lambdiff.", fix="Deploy under another `name=`, or rename that stack."
        )
    builder = find(account, settings.name)
    if builder is None or builder.fingerprint != wanted:
        if state and state.never_created:
            stacks.delete(account, name)
        elif state and not state.stable and state.status != "REVIEW_IN_PROGRESS":
            raise existing_stack.builder_cannot_be_updated(account, state)
        cdk.deploy_builder(settings, wanted)
        builder = find(account, settings.name)
    if builder is None:
        raise DeployError(f"The stack {name} is not complete.", fix="Deploy again.")
    return builder


def remove(account: Account, name: str) -> None:
    """Delete the builder of a deployment with its images; do nothing if it has none."""
    state = stacks.wait_until_idle(account, builder_stack_name(name))
    if state is None or not state.ours:
        return
    if project := state.outputs.get(outputs.BUILDER_PROJECT):
        for build in builds.running(account, project):
            builds.stop(account, build.id)
    if bucket := state.outputs.get(outputs.BUILDER_BUCKET):
        buckets.empty(account, bucket)
    stacks.delete(account, state.name)


def prune(account: Account, uri: str) -> None:
    """Delete the earlier images of a builder's repository, once the endpoint has the image with address `uri`."""
    repository, _, digest = uri.partition("/")[2].partition("@")
    images.delete_others(account, repository, digest)


def _address(account: Account, builder: Builder, tag: str) -> str | None:
    image = images.find(account, f"{builder.repository}:{tag}")
    return f"{builder.repository}@{image.digest}" if image else None


def _tag(settings: StackSettings, context: BuildContext) -> str:
    """Return the name of an image, the hash of all that it is built from."""
    parts = [context.digest, settings.base_image, settings.base_image_pin, settings.engine, settings.architecture]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _variables(settings: StackSettings, tag: str) -> dict[str, str]:
    return {
        "BASE_IMAGE": settings.base_image,
        "BASE_DIGEST": settings.base_image_pin.partition("@")[2],
        "ENGINE": settings.engine,
        "PLATFORM": PLATFORMS[settings.architecture],
        "TAG": tag,
    }


class _BuildRun:
    """One build, from the upload to its end."""

    def __init__(
        self,
        account: Account,
        builder: Builder,
        log: Path,
        stages: Stages,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._account, self._builder, self._stages, self._sleep = account, builder, stages, sleep
        self._log = log
        self._lines: list[str] = []
        self._token: str | None = None

    def run(self, context: BuildContext, tag: str, variables: dict[str, str]) -> None:
        """Build, or wait for a build of the same image that is in progress.

        Raises:
            DeployError: it failed.
        """
        key = f"{tag}.zip"
        running = [
            build
            for build in builds.running(self._account, self._builder.project)
            if variables.items() <= build.variables.items()
        ]
        if not running:
            self._upload(context, key)
            self._stages.stage(STARTING)
            build_id = self._start(key, variables)
        else:
            self._stages.stage(STARTING)
            self._stages.say("          An earlier run has started this build; it is continued.")
            build_id = running[0].id
        try:
            build = self._follow(build_id)
        except BaseException:
            self._stages.failed()
            self._stages.say("Stopping the build in CodeBuild ...")
            builds.stop(self._account, build_id)
            raise
        buckets.delete(self._account, self._builder.bucket, key)
        if build.status != "SUCCEEDED":
            self._stages.failed()
            raise self._failure(build)
        self._stages.done()
        architecture = "arm64" if variables["PLATFORM"].endswith("arm64") else "x86_64"
        cost = pricing.dollars(pricing.build(build.seconds, architecture))
        self._stages.say(f"          CodeBuild took {build.seconds / 60:.1f} minutes, which cost at most {cost}.")

    def _upload(self, context: BuildContext, key: str) -> None:
        self._stages.stage(UPLOADING)
        sent, lock = 0, threading.Lock()
        with temporary_path(context.folder.parent, ".archive-") as folder:
            folder.mkdir(mode=0o700)
            archive = folder / "context.zip"
            _pack(context.folder, archive)
            total = archive.stat().st_size

            def progress(count: int) -> None:
                nonlocal sent
                with lock:
                    sent += count
                    self._stages.detail(f"{sent / 1e6:,.0f} of {total / 1e6:,.0f} MB")

            buckets.upload(self._account, self._builder.bucket, key, archive, progress)

    def _start(self, key: str, variables: dict[str, str]) -> str:
        source = f"{self._builder.bucket}/{key}"
        try:
            return builds.start(self._account, self._builder.project, source, variables)
        except Rejected as error:
            if "AccountLimitExceeded" in error.reason:
                error.fix = (
                    "New accounts may not build at all or not twice at once: ask for more under Service Quotas, AWS "
                    "CodeBuild (concurrently running builds for Linux/Small or ARM/Small), or build with a container "
                    "engine: `builder=local`."
                )
            raise

    def _follow(self, build_id: str) -> Build:
        """Show the log of a build until it ends."""
        while True:
            build = builds.read(self._account, build_id)
            self._show(build)
            if not build.running:
                for _ in range(_LOG_DELAY):
                    self._sleep(_POLL_SECONDS / 2)
                    self._show(build)
                return build
            self._sleep(_POLL_SECONDS)

    def _show(self, build: Build) -> None:
        if build.phase == "BUILD" and not self._lines:
            self._stages.stage(BUILDING)
        elif build.phase:
            self._stages.detail(build.phase.lower().replace("_", " "))
        if not build.log_stream:
            return
        lines, self._token = logs.tail(self._account, build.log_group, build.log_stream, self._token)
        if not lines:
            return
        with self._log.open("a", encoding="utf-8") as log:
            os.chmod(self._log, 0o600)
            log.writelines(f"{line}\n" for line in lines)
        self._lines += lines
        for line in lines:
            if "Running command docker build" in line:
                self._stages.stage(BUILDING)
            elif "Running command docker push" in line:
                self._stages.stage(PUSHING)
            elif detail := detail_of(line):
                self._stages.detail(detail)

    def _failure(self, build: Build) -> Exception:
        if build.status == "TIMED_OUT":
            return DeployError(
                f"The build in CodeBuild was ended after {BUILD_MINUTES} minutes.",
                fix=f"See {self._log}; deploy again.",
            )
        if build.status == "STOPPED":
            return DeployError("The build in CodeBuild was stopped.", fix="Deploy again.")
        output = "\n".join([*self._lines, *build.reasons])
        return failures.explain(output, "The build in CodeBuild", str(self._log))


def _pack(folder: Path, archive: Path) -> None:
    """Write a folder into a zip archive, with the times and permissions that it was staged with."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            method = zipfile.ZIP_STORED if path.stat().st_size > _STORED else zipfile.ZIP_DEFLATED
            file.write(path, path.relative_to(folder).as_posix(), method)
