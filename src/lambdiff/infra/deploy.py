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

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from lambdiff import config, pricing
from lambdiff.aws import stacks
from lambdiff.aws.account import Account
from lambdiff.aws.stacks import StackState
from lambdiff.config import Deployment
from lambdiff.errors import Cancelled, LambdiffError
from lambdiff.infra import bootstrap, build_context, builder, question, smoke_test
from lambdiff.infra.cdk_cli import Cdk
from lambdiff.infra.failures import MemoryCapped
from lambdiff.infra.preflight import DeployOptions, Prepared, fingerprint, prepare
from lambdiff.infra.settings import StackSettings
from lambdiff.infra.toolchain import Tool
from lambdiff.interrupts import DeferredInterrupt
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
        notes: settings that differ from what the caller may expect, and what callers would lose.
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
        Cancelled: the caller declined, or it was interrupted by Ctrl-C, SIGTERM or SIGHUP; the message says what has
            happened in AWS.
        InvalidRequest: options are out of range or contradict each other.
        LambdiffError: the deployment failed. The next run continues from there.
    """
    run = _Run(options, stages, confirm)
    with run.explaining_interrupts():
        prepared = run.prepare()
        if prepared.unchanged and prepared.state and not options.force:
            return run.keep(prepared, prepared.state)
        engine = run.choose_builder(prepared.account, prepared.settings)
        # Deferred from here on, where AWS is changed: until then, a signal may end the program at once.
        with DeferredInterrupt("Ending in an orderly way; press Ctrl-C again to abort."), run.explaining_interrupts():
            return run.change(prepared, engine)


class _Run:
    """One deployment in progress, which knows at every moment what an interrupt would leave behind."""

    def __init__(self, options: DeployOptions, stages: Stages, confirm: Confirm) -> None:
        self.options, self.stages, self.confirm = options, stages, confirm
        self.notes: list[str] = []
        self._said = 0
        self._prepared: Prepared | None = None
        self._cdk: Cdk | None = None
        self._chosen: list[Tool | None] = []
        self._bootstrapping = self._changing = self._building = self._deployed = False
        self._memory_limit: int | None = None

    @contextlib.contextmanager
    def explaining_interrupts(self) -> Iterator[None]:
        """Turn KeyboardInterrupt into the error that says what AWS does now."""
        try:
            yield
        except KeyboardInterrupt:
            self.stages.failed()
            raise self._interrupted() from None

    def prepare(self) -> Prepared:
        """Run all steps that change nothing in AWS."""
        prepared = self._prepared = prepare(self.options, self.stages, self.choose_builder)
        self.notes += prepared.notes
        self._say_notes()
        return prepared

    def keep(self, prepared: Prepared, state: StackState) -> DeployResult:
        """Save a deployment that is up to date."""
        self.stages.done()
        saved = _save(self.options, prepared.settings, state.outputs)
        return _result(saved, prepared.settings, self.notes, changed=False, stages=self.stages.times)

    def change(self, prepared: Prepared, engine: Tool | None) -> DeployResult:
        """Run all steps that change something in AWS.

        Args:
            prepared: what is to be deployed.
            engine: builds the image; None for CodeBuild.
        """
        self._cdk = self._open_cdk(prepared, engine)
        if not self.confirm(question.ask(prepared, in_codebuild=engine is None)):
            raise Cancelled("Nothing was deployed.")
        self._changing = True
        if engine is None:
            prepared = self._prepared = self._build_in_codebuild(self._cdk, prepared)
        if prepared.state and prepared.state.never_created:
            self.stages.stage("Deleting the incomplete stack")
            stacks.delete(prepared.account, prepared.state.name)
        settings, outputs = self._update_stack(self._cdk, prepared)
        self.stages.done()
        saved = _save(self.options, settings, outputs)
        self._deployed = True
        build_context.prune(prepared.context.folder)
        if settings.image:
            self._prune_images(prepared.account, settings.image)
        elif unused := builder.read(prepared.account, settings.name):
            self.notes.append(f"The stack {unused.name} is not used any more; `lambdiff destroy` removes it.")
        seconds = None
        if self.options.smoke_test and settings.reserved_concurrency != 0:
            seconds = smoke_test.run(saved, settings, self.stages, self.notes)
        self.stages.done()
        self._say_notes()
        return _result(saved, settings, self.notes, changed=True, seconds=seconds, stages=self.stages.times)

    def _say_notes(self) -> None:
        """Print the notes that have not been printed yet."""
        for note in self.notes[self._said :]:
            self.stages.say(f"          {note}")
        self._said = len(self.notes)

    def _interrupted(self) -> Cancelled:
        """Return the error after an interrupt: what AWS does now, and what to run next."""
        again = "Run `lambdiff deploy` again: it waits for AWS and continues from there."
        if self._deployed:
            return Cancelled(
                "Interrupted when the deployment was complete and saved; only its test is missing.",
                fix='Test it with `lambdiff generate "a cat in a top hat"`.',
            )
        if self._bootstrapping:
            return Cancelled(
                "Interrupted while the account was being prepared for CDK; if that has begun, it continues in AWS.",
                fix=again,
            )
        if not self._changing or self._prepared is None:
            return Cancelled("Interrupted; nothing was changed in AWS.", fix="Run `lambdiff deploy` again.")
        if self._building:
            return Cancelled(
                f"Interrupted before the image was complete; the stack {self._prepared.settings.stack_name} was not "
                "changed.",
                fix=f"{again} `lambdiff destroy` removes what CodeBuild has.",
            )
        if self._memory_limit:
            again = f"{again} Add `memory_mb={self._memory_limit}`, the most that this account may have."
        return Cancelled(
            f"Interrupted; the deployment was not saved on this machine. {self._describe_stack(self._prepared)}",
            fix=again,
        )

    def _describe_stack(self, prepared: Prepared) -> str:
        """Return a sentence on what happens to the stack without this program."""
        name = prepared.settings.stack_name
        if self._cdk is None or not self._cdk.changing_stack:
            return f"The stack {name} was not changed; pushed layers of the image are kept."
        try:
            state = stacks.read(prepared.account, name)
        except LambdiffError:
            return f"If an update of the stack {name} has begun, it continues in AWS."
        if state is None or state.status == "REVIEW_IN_PROGRESS":
            return f"The stack {name} was not created."
        if state.changing:
            return f"The stack {name} is {state.status}: this continues in AWS."
        return f"The stack {name} is {state.status}; if an update has just begun, it continues in AWS."

    def choose_builder(self, account: Account, settings: StackSettings) -> Tool | None:
        """Return the container engine, or None for CodeBuild; ask at most once."""
        if not self._chosen:
            self.stages.stage("Checking this machine")

            def confirm(question: str) -> bool:
                self.stages.done()
                return self.confirm(question)

            self._chosen.append(builder.choose(self.options.builder, account, settings, confirm))
        return self._chosen[0]

    def _build_in_codebuild(self, cdk: Cdk, prepared: Prepared) -> Prepared:
        """Build the image in CodeBuild, unless it exists, and return the deployment with its address."""
        self._building = True
        image = builder.build(prepared.account, cdk, prepared.settings, prepared.context, self.stages)
        self._building = False
        return dataclasses.replace(prepared, settings=msgspec.structs.replace(prepared.settings, image=image))

    def _prune_images(self, account: Account, image: str) -> None:
        try:
            builder.prune(account, image)
        except LambdiffError as error:  # the endpoint is up to date
            self.notes.append(f"Earlier images are left in ECR: {error.message}")

    def _open_cdk(self, prepared: Prepared, engine: Tool | None) -> Cdk:
        """Fetch the CDK CLI if necessary, and bootstrap the account if necessary."""
        self.stages.stage("Checking this machine")
        self.stages.detail("fetching the CDK CLI")
        cdk = Cdk(prepared.account, self.stages, engine=engine, log_name=f"deploy-{self.options.name}")
        self._bootstrapping = True
        qualifier = prepared.settings.qualifier
        bootstrap.ensure(prepared.account, cdk, self.stages, self.confirm, qualifier=qualifier)
        self._bootstrapping = False
        self.stages.done()
        return cdk

    def _update_stack(self, cdk: Cdk, prepared: Prepared) -> tuple[StackSettings, dict[str, str]]:
        """Deploy, and again with less memory if the account is capped; return the settings used and the outputs."""
        self.stages.stage("Preparing the stack")
        try:
            return prepared.settings, cdk.deploy(prepared.settings)
        except MemoryCapped as error:
            limit = error.limit
            self._memory_limit = limit
            settings = prepared.settings.with_memory_limit(limit)
            if settings == prepared.settings or not self.confirm(
                f"Functions in this account may have at most {limit:,} MB. Deploy with that much?"
            ):
                raise
        settings = msgspec.structs.replace(settings, fingerprint=fingerprint(settings, prepared.context.digest)).check()
        self.notes.append(f"Memory is {limit:,} MB, the most that this account may have.")
        self.stages.stage("Preparing the stack")
        return settings, cdk.deploy(settings)


def dry_run(options: DeployOptions, stages: Stages) -> DryRun:
    """Run the preflight and compare with the stack, without changing anything in AWS."""
    prepared = prepare(options, stages)
    stages.stage("Comparing with the stack")
    settings = prepared.settings
    if options.builder != "local" and (image := builder.find_image(prepared.account, settings, prepared.context)):
        settings = msgspec.structs.replace(settings, image=image)
    diff = Cdk(prepared.account, stages, log_name=f"deploy-{options.name}").diff(settings)
    stages.done()
    notes = [*prepared.notes, *prepared.losses]
    return DryRun(summary=question.describe(prepared.settings, prepared.context), diff=diff, notes=notes)


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
