"""`lambdiff bench --memory`: which memory setting of a deployment is cheapest, and which is fastest.

More memory is more processor, in proportion: pictures come sooner and each second costs more. Which of the two wins
only a measurement can say, so each setting is tried on the function itself, and the one it had is set again at the end,
whatever happened: an error, Ctrl-C, SIGTERM. Whoever else calls meanwhile gets the setting that is being tried.

The billed time is Lambda's own, from the REPORT lines of the log, found by the seeds of the pictures. Where the log
lacks one or cannot be read, it is for all pictures the time of the handler's phases, a little less than what is billed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from lambdiff import pricing
from lambdiff.aws import logs
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.aws.report_lines import Invocation, invocations
from lambdiff.bench.function_memory import Function, Memory, NotAllowed
from lambdiff.bench.latency import Bench, BenchPlan, Measured, Stats
from lambdiff.client import progress
from lambdiff.client.client import Client
from lambdiff.errors import Cancelled, EndpointFailed, LambdiffError
from lambdiff.protocol.contract import Generation
from lambdiff.stages import Stages

LOG_PATIENCE: Final = 60.0
"""Seconds that a REPORT line may take to appear in the log."""

Ask = Callable[[str], bool]


class Setting(Struct, frozen=True, kw_only=True):
    """One memory setting.

    Attributes:
        current: whether it is the one that the function has.
        pictures: how many the figures rest on, none of them a cold start.
        cold: what the caller waited for the first picture, if the model was loaded for it, in seconds.
        seconds: what the caller waits.
        billed: median billed seconds, by `billed_by`: Lambda's `log`, or the handler's `timings`.
        time, cost: seconds and dollars relative to the current setting; 0.5 is half.
        error, fix: why there are no figures, and what to do about it.
    """

    memory_mb: int
    current: bool
    pictures: int = 0
    cold: float | None = None
    seconds: Stats | None = None
    billed: float | None = None
    billed_by: Literal["log", "timings"] | None = None
    dollars_per_image: float | None = None
    time: float | None = None
    cost: float | None = None
    error: str | None = None
    fix: str = ""


class MemorySweepReport(Struct, frozen=True, kw_only=True):
    """The report; the form of `--json`. `cheapest` and `fastest` are None where nothing was measured.

    Attributes:
        restored: whether the function has the memory again that it had.
        notes: what is not as one might expect.
    """

    name: str
    function: str
    region: str
    architecture: str
    num_inference_steps: int
    width: int
    height: int
    memory_mb: int
    restored: bool
    cheapest: int | None
    fastest: int | None
    settings: list[Setting]
    prices_of: str
    notes: list[str]


class MemorySweep:
    """A measurement under way: `run` it, and ask for the `report` at any time, an interruption included.

    Args:
        target: the deployment.
        client: calls the same deployment.
        plan: what to ask for; the last of its pictures is measured.
        sizes: memory settings in MB; the current one is measured with them.
        rounds: pictures at each setting, after one to warm up.

    Raises:
        ConfigurationError: the endpoint serves a published version (SnapStart), which no setting reaches.
        CredentialsError, DeployError: the function cannot be read, or is being changed.
    """

    def __init__(
        self, target: SelectedDeployment, client: Client, plan: BenchPlan, sizes: Sequence[int], *, rounds: int = 3
    ) -> None:
        self.target = target
        self.client = client
        self.plan = dataclasses.replace(plan, generations=plan.generations[-1:])
        self.rounds = rounds
        self.function = Function.read(target)
        self.memory = Memory(target, self.function.memory_mb)
        # The current one first: there is nothing to change for it, and everything is compared with it.
        self.sizes = list(dict.fromkeys([self.function.memory_mb, *sorted(sizes)]))
        self._tried: dict[int, Measured] = {}
        self._refused: dict[int, LambdiffError] = {}
        self._billed: dict[int, Invocation] = {}
        self._unread = "the log was not read."

    @property
    def pictures(self) -> int:
        """How many will be asked for, the warm-up included."""
        return len(self.sizes) * (self.rounds + 1)

    @property
    def generation(self) -> Generation:
        """What is asked for."""
        return self.plan.generations[0]

    @property
    def begun(self) -> bool:
        """Whether anything is known that a report could tell."""
        return any(each.warm_up for each in self._tried.values())

    @property
    def errors(self) -> dict[int, LambdiffError]:
        """Why a size has no figures, or not all of them."""
        broken = {size: each.error for size, each in self._tried.items() if each.error}
        return {**broken, **self._refused}

    def question(self) -> str:
        """What is about to be done, and what it costs."""
        now = self.function
        expected = progress.expected_seconds(self.client.transport.url)
        if expected is not None:
            # At each setting about the same GB-seconds: the processor grows with the memory.
            dollars = pricing.dollars(self.pictures * now.price(now.memory_mb, expected))
            cost = f"about {dollars}, as the last picture took {expected:.1f} s"
        else:
            each = [now.price(size, now.timeout_s) for size in self.sizes]
            cost = f"less than {pricing.dollars((self.rounds + 1) * sum(each))}; how long one takes is not known yet"
        drawing = f"Draw {self.pictures} pictures ({cost})"
        others = ", ".join(f"{size:,}" for size in self.sizes[1:])
        if not others:
            return f"{drawing}?"
        return (
            f"{drawing} and meanwhile set the memory of {self.target.function}, which is {now.memory_mb:,} MB, "
            f"to {others} MB, also for others who call it?"
        )

    def run(self, report: Stages, ask: Ask) -> None:
        """Measure every setting, then set the memory as it was, whatever happened.

        Args:
            report: hears about the stages.
            ask: answers the question.

        Raises:
            Cancelled: the answer was no; nothing was changed.
            CredentialsError: the memory may not be changed.
            DeployError: it could not be set as it was; the message has the command that does it.
            LambdiffError: the endpoint refuses its callers, or no picture came at any setting.
        """
        if not ask(self.question()):
            raise Cancelled("Nothing was changed.")
        since = time.time()

        def measure() -> None:
            for size in self.sizes:
                self._measure(size, report)

        self.memory.restore_after(measure, report)
        if self.begun:
            report.stage("Reading the billed times in the log")
            try:
                self._read_log(since)
            except BaseException:
                report.failed()
                raise
        report.done()
        if self._refused and not any(each.samples for each in self._tried.values()):
            raise next(iter(self._refused.values()))

    def report(self) -> MemorySweepReport:
        """Everything that was measured so far."""
        settings = _compare(
            [self._setting(size) for size in self.sizes if size in self._tried or size in self._refused]
        )
        priced = {each.dollars_per_image: each.memory_mb for each in settings if each.dollars_per_image is not None}
        timed = {each.seconds.median: each.memory_mb for each in settings if each.seconds}
        unlogged = f"The billed times are the handler's own, a little less than Lambda's, because {self._unread}"
        return MemorySweepReport(
            name=self.target.deployment.value.name,
            function=self.target.function,
            region=self.target.account.region.value,
            architecture=self.function.architecture,
            num_inference_steps=self.generation.num_inference_steps,
            width=self.generation.width,
            height=self.generation.height,
            memory_mb=self.function.memory_mb,
            restored=self.memory.restored,
            cheapest=priced[min(priced)] if priced else None,
            fastest=timed[min(timed)] if timed else None,
            settings=settings,
            prices_of=f"{pricing.DATE}, us-east-1, before tax",
            notes=[unlogged] if self._missing else [],
        )

    def _measure(self, size: int, report: Stages) -> None:
        report.stage(f"Measuring {size:,} MB")
        try:
            if size != self.function.memory_mb:
                self.memory.set(size)
            bench = Bench(self.client, self.plan, rounds=self.rounds)
            (self._tried[size],) = bench.measured
            bench.run()
        except (EndpointFailed, NotAllowed) as error:  # too little memory, say; the others may do
            self._refused[size] = error
            report.failed()

    def _read_log(self, since: float) -> None:
        try:
            group = logs.group_of(self.target)
            give_up = time.monotonic() + LOG_PATIENCE
            while True:
                # Earlier, because this machine's clock may be as far off as signatures allow.
                lines = [line.text for line in logs.read(self.target.account, group, since=since - 300)]
                self._billed = by_seed(lines)
                if not self._missing:
                    return
                if time.monotonic() > give_up:
                    break
                time.sleep(2)
            self._unread = f"{len(self._missing)} pictures are not in the log yet."
        except LambdiffError as error:
            self._unread = f"the log cannot be read: {error.message}"

    @property
    def _missing(self) -> set[int]:
        """Seeds of the measured pictures whose billed time is not known from the log."""
        return {sample.seed for each in self._tried.values() for sample in each.samples} - self._billed.keys()

    def _setting(self, size: int) -> Setting:
        tried, error = self._tried.get(size), self.errors.get(size)
        current = size == self.function.memory_mb
        samples = tried.samples if tried else []
        # An environment of the setting before may have answered.
        samples = [each for each in samples if self._memory_of(each.seed) in (None, size)]
        fix = error.fix if error else ""
        cold = tried.warm_up.seconds if tried and tried.warm_up and tried.warm_up.cold else None
        if not samples:
            why = error.message if error else "Every picture was a cold start, or drawn with another memory."
            return Setting(memory_mb=size, current=current, cold=cold, error=why, fix=fix)
        logged = not self._missing  # all or none, because times of two kinds cannot be compared
        billed = [self._billed[each.seed].billed if logged else each.engine for each in samples]
        return Setting(
            memory_mb=size,
            current=current,
            pictures=len(samples),
            cold=cold,
            seconds=Stats.of(each.seconds for each in samples),
            billed=round(statistics.median(billed), 4),
            billed_by="log" if logged else "timings",
            dollars_per_image=self.function.price(size, statistics.median(billed)),
            error=error.message if error else None,
            fix=fix,
        )

    def _memory_of(self, seed: int) -> int | None:
        found = self._billed.get(seed)
        return found.memory_mb if found else None


def by_seed(lines: Iterable[str]) -> dict[int, Invocation]:
    """Lambda's report of each picture in a log, by the picture's seed, which the handler's line has."""
    listed = list(lines)
    reports = {each.request_id: each for each in invocations(listed)}
    found = {}
    for line in listed:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # other lines, and other programs' JSON
            entry: dict[str, Any] = json.loads(line)
            found[int(entry["parameters"]["seed"])] = reports[entry["request_id"]]
    return found


def _compare(settings: list[Setting]) -> list[Setting]:
    """Each setting with its time and cost relative to the current one's, in the order of their memory."""
    import msgspec

    now = next((each for each in settings if each.current and each.seconds), None)
    compared = []
    for each in sorted(settings, key=lambda setting: setting.memory_mb):
        changes = {}
        if now and now.seconds and each.seconds:
            changes["time"] = round(each.seconds.median / now.seconds.median, 3)
        if now and now.dollars_per_image and each.dollars_per_image is not None:
            changes["cost"] = round(each.dollars_per_image / now.dollars_per_image, 3)
        compared.append(msgspec.structs.replace(each, **changes))
    return compared
