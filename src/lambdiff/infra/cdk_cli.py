"""Runs the CDK CLI: writes its output to a log, shows its progress, and explains its failures (`failures.py`)."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from lambdiff import config
from lambdiff.aws.account import Account
from lambdiff.infra import failures, guarded_process, process_guard, toolchain
from lambdiff.infra import settings as stack_settings
from lambdiff.infra.settings import StackSettings
from lambdiff.infra.toolchain import Tool
from lambdiff.stages import Stages

BUILDING = "Building the image"
PUSHING = "Pushing the image"
STACK = "Updating the stack"


class Cdk:
    """The CDK CLI for one account.

    Args:
        account: the account, and the credentials that the CLI receives.
        stages: shows the progress.
        engine: the container engine; None if no image is built.
        log_name: the name of the log file, without its suffix.

    Attributes:
        log: the log file.
        changing_stack: whether CloudFormation may have begun to change the stack.
    """

    changing_stack = False
    _one_stage = False

    def __init__(self, account: Account, stages: Stages, *, engine: Tool | None = None, log_name: str = "cdk") -> None:
        self._account = account
        self._stages = stages
        self._engine = engine
        self.log = config.home() / "logs" / f"{log_name}.log"
        self._command = toolchain.cdk().command

    def bootstrap(self) -> None:
        """Bootstrap the account and region for CDK."""
        with _temporary_folder() as folder:
            where = f"aws://{self._account.id}/{self._account.region.value}"
            self._run("bootstrap", where, folder=folder, what="The bootstrap")

    def deploy(self, settings: StackSettings) -> dict[str, str]:
        """Create or update the stack, and return its outputs by name."""
        with _temporary_folder() as folder:
            outputs = folder / "outputs.json"
            self._run(
                *self._app(folder),
                *("deploy", "--require-approval", "never", "--progress", "events", "--outputs-file", str(outputs)),
                # A rotation makes CloudFormation wait before it deletes what it has replaced; a deployment does not.
                *("--rollback-trigger-alarm-arns", "none"),
                folder=folder,
                settings=settings,
                what="The deployment",
            )
            document: dict[str, dict[str, str]] = msgspec.json.decode(outputs.read_bytes())
        return document[settings.stack_name]

    def deploy_builder(self, settings: StackSettings, fingerprint: str) -> None:
        """Create or update the builder stack of an endpoint, all within the current stage."""
        self._one_stage = True
        with _temporary_folder() as folder:
            self._run(
                *self._app(folder, f"builder {fingerprint}"),
                *("deploy", "--require-approval", "never", "--progress", "events"),
                folder=folder,
                settings=settings,
                what="The preparation of CodeBuild",
            )
        self._one_stage = False

    def diff(self, settings: StackSettings) -> str:
        """Return what `deploy` would change, as the CDK CLI prints it."""
        with _temporary_folder() as folder:
            return self._run(*self._app(folder), "diff", folder=folder, settings=settings, what="The comparison")

    @staticmethod
    def _app(folder: Path, arguments: str = "") -> tuple[str, ...]:
        # The command must not end in a quote: the CLI strips a matching pair of outer quotes.
        command = f'"{sys.executable}" -m lambdiff.infra.cdk_app {arguments}'.strip()
        return ("--app", command, "--output", str(folder / "cdk.out"))

    def _run(self, *arguments: str, folder: Path, what: str, settings: StackSettings | None = None) -> str:
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines: list[str] = []
        with (
            self.log.open("a", buffering=1, encoding="utf-8") as log,
            self._start(arguments, folder, settings) as process,
        ):
            try:
                os.chmod(self.log, 0o600)
                log.write(f"\n$ cdk {' '.join(arguments)}\n")
                for line in process.stdout or ():
                    log.write(line)
                    lines.append(line)
                    if settings is not None:
                        self._show_progress(line)
                status = process.wait()
            except BaseException:
                self._stages.failed()
                self._stages.say("Stopping the CDK CLI and the build ...")
                raise
        output = "".join(lines)
        if status != 0:
            self._stages.failed()
            raise failures.explain(output, what, str(self.log))
        return output

    def _start(
        self, arguments: tuple[str, ...], folder: Path, settings: StackSettings | None
    ) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        environment = {
            **{name: value for name, value in os.environ.items() if name not in _OTHER_IDENTITIES},
            **toolchain.environment(self._engine),
            **self._account.environment(),
        }
        if settings is not None:
            environment[stack_settings.VARIABLE] = settings.to_json()
        where = config.home() / "cdk"
        where.mkdir(mode=0o700, exist_ok=True)
        command = [*self._command, "--no-color", "--no-notices", "--ci", *arguments]
        # In a folder of its own, so that no cdk.json of another project is read.
        return guarded_process.start(command, folder, environment, cwd=where)

    def _show_progress(self, line: str) -> None:
        if (stage := stage_of(line)) and not self._one_stage:
            self._stages.stage(stage)
            self.changing_stack = stage == STACK
        elif detail := detail_of(line):
            self._stages.detail(detail)


_OTHER_IDENTITIES: Final = frozenset(
    {"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION"}
)
"""Variables that would change or contradict the keys that the CLI receives."""


def stage_of(line: str) -> str | None:
    """Return the stage that a line of the CDK CLI begins, if any.

    Example:
        >>> stage_of("lambdiff: start: Building lambdiff image (openvino)")
        'Building the image'
    """
    for pattern, stage in (
        (r": start: Building lambdiff image", BUILDING),
        (r": start: Publishing lambdiff image", PUSHING),
        (r"(creating CloudFormation changeset|: deploying\.\.\.)", STACK),
    ):
        if re.search(pattern, line):
            return stage
    return None


def detail_of(line: str) -> str | None:
    """Return the progress that a line reports, if any: a build step, or a resource of the stack.

    Example:
        >>> detail_of("lambdiff |  4/13 | 11:45:42 PM | CREATE_COMPLETE | AWS::IAM::Policy | Invoker/DefaultPolicy (I)")
        '4/13 AWS::IAM::Policy'
        >>> detail_of("[2/5] STEP 3/4: RUN sh /tmp/install-packages.sh /tmp/requirements-openvino.txt")
        'RUN sh /tmp/install-packages.sh /tmp/requirements-openvino.txt'
    """
    if match := re.search(r"\|\s*(\d+/\d+)\s*\|[^|]*\|[^|]*\|\s*([\w:]+)", line):
        return f"{match[1]} {match[2]}"
    if match := re.search(r"(?:STEP \d+/\d+: |^#\d+ \[[^\]]+\] )(.*)", line):
        return match[1].strip()
    return None


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = tempfile.mkdtemp(prefix="lambdiff-")
    try:
        yield Path(folder)
    finally:
        process_guard.remove(folder)
