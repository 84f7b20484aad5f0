"""Find the memory setting at which a deployment's images are cheapest, and the one at which they are fastest.

Lambda allocates CPU in proportion to memory: with more memory an image takes less time, but each second costs more.
Which effect wins has to be measured, so each setting is tried on the function itself; other callers are served with it
in the meantime. At the end the original setting is restored, even after an error, Ctrl-C or SIGTERM.

The billed duration comes from Lambda's REPORT lines in the log. If one is missing, the sum of the handler's phases is
used for all images, which is slightly less than what is billed.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

from lambdiff import pricing
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.bench.billed_log import PATIENCE, BilledLog
from lambdiff.bench.function_memory import FunctionMemory, MemoryNotAllowed
from lambdiff.bench.latency import Bench
from lambdiff.bench.memory_report import MemorySetting, MemorySweepReport, cheapest, compare, fastest
from lambdiff.bench.plan import BenchPlan
from lambdiff.bench.samples import Sample, Series
from lambdiff.bench.stats import Stats
from lambdiff.client import progress
from lambdiff.client.client import Client
from lambdiff.errors import Cancelled, EndpointFailed, LambdiffError
from lambdiff.protocol.contract import Generation
from lambdiff.stages import Confirm, Stages


class MemorySweep:
    """A sweep. Call `run`, then `report`, which also works after an interrupt.

    Args:
        target: the deployment.
        client: calls the same deployment.
        plan: what to generate; only its last configuration is measured.
        sizes: memory settings in MB; the current one is always measured.
        rounds: images at each setting after the warm-up.
        clock: seconds, from any starting point.
        sleep: waits for the given seconds.
        log_patience: seconds to wait for REPORT lines.

    Raises:
        ConfigurationError: the endpoint serves a published version (SnapStart), whose memory cannot be changed.
        CredentialsError, DeployError: the function cannot be read, or is being changed.
    """

    def __init__(
        self,
        target: SelectedDeployment,
        client: Client,
        plan: BenchPlan,
        sizes: Sequence[int],
        *,
        rounds: int = 3,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        log_patience: float = PATIENCE,
    ) -> None:
        self.target = target
        self.client = client
        self.plan = dataclasses.replace(plan, generations=plan.generations[-1:])
        self.rounds = rounds
        self.memory = FunctionMemory(target)
        self.function = self.memory.function
        # The current setting comes first: it needs no change, and all others are compared with it.
        self.sizes = list(dict.fromkeys([self.function.memory_mb, *sorted(sizes)]))
        self._clock = clock
        self._log = BilledLog(target.account, self.function.log_group, clock=clock, sleep=sleep, patience=log_patience)
        self._series: dict[int, Series] = {}
        self._failures: dict[int, LambdiffError] = {}

    @property
    def images(self) -> int:
        """How many images a complete run generates, including the warm-up."""
        return len(self.sizes) * (self.rounds + 1)

    @property
    def generation(self) -> Generation:
        """The configuration that is measured."""
        return self.plan.generations[0]

    @property
    def started(self) -> bool:
        """Whether an image has been generated."""
        return any(series.warm_up for series in self._series.values())

    @property
    def errors(self) -> dict[int, LambdiffError]:
        """Why figures are missing for a setting, by MB."""
        return {**{size: series.error for size, series in self._series.items() if series.error}, **self._failures}

    def question(self) -> str:
        """What a run does and costs, as a yes-or-no question."""
        task = f"Generate {self.images} images ({self._estimate()})"
        others = ", ".join(f"{size:,}" for size in self.sizes[1:])
        if not others:
            return f"{task}?"
        return (
            f"{task} and temporarily change the memory of {self.function.name} from {self.function.memory_mb:,} MB "
            f"to {others} MB, for all callers?"
        )

    def run(self, stages: Stages, confirm: Confirm) -> None:
        """Measure every setting, then restore the function's own.

        Args:
            stages: shows the progress.
            confirm: answers `question`.

        Raises:
            Cancelled: the answer was no; nothing was changed.
            CredentialsError: the memory may not be changed.
            DeployError: the memory could not be restored; the message has the command that restores it.
            LambdiffError: the endpoint refuses the caller, or failed at every setting.
        """
        if not confirm(self.question()):
            raise Cancelled("Nothing was changed.")
        since = time.time()

        def measure() -> None:
            for size in self.sizes:
                self._measure(size, stages)

        self.memory.restore_after(measure, stages)
        if self.started:
            stages.stage("Reading billed durations from the log")
            try:
                self._log.read(self._seeds, since)
            except BaseException:
                stages.failed()
                raise
        stages.done()
        if self._failures and not any(series.samples for series in self._series.values()):
            raise next(iter(self._failures.values()))

    def report(self) -> MemorySweepReport:
        """Summarize what has been measured so far."""
        measured = [size for size in self.sizes if size in self._series or size in self._failures]
        settings = compare(self._setting(size) for size in measured)
        note = f"The billed durations are the handler's own, slightly less than Lambda's, because {self._log.problem}"
        return MemorySweepReport(
            name=self.target.deployment.value.name,
            function=self.function.name,
            region=self.target.account.region.value,
            architecture=self.function.architecture,
            num_inference_steps=self.generation.num_inference_steps,
            width=self.generation.width,
            height=self.generation.height,
            current_memory_mb=self.function.memory_mb,
            restored=self.memory.restored,
            cheapest_memory_mb=cheapest(settings),
            fastest_memory_mb=fastest(settings),
            settings=settings,
            prices_as_of=f"{pricing.DATE}, us-east-1, before tax",
            notes=[] if self._logged else [note],
        )

    def _estimate(self) -> str:
        """The cost of a run: expected if the last image's time is known, otherwise an upper bound."""
        function = self.function
        seconds = progress.expected_seconds(self.client.transport.url)
        if seconds is not None:
            # GB-seconds are about the same at each setting, because CPU is proportional to memory.
            total = self.images * function.price(seconds)
            return f"about {pricing.dollars(total)}, since the last image took {seconds:.1f} s"
        most = (self.rounds + 1) * sum(function.price(function.timeout_s, size) for size in self.sizes)
        return f"at most {pricing.dollars(most)}; how long an image takes is not known yet"

    def _measure(self, size: int, stages: Stages) -> None:
        stages.stage(f"Measuring {size:,} MB")
        try:
            if size != self.function.memory_mb:
                self.memory.set(size)
            bench = Bench(self.client, self.plan, rounds=self.rounds, clock=self._clock)
            (self._series[size],) = bench.series
            bench.run()
        except (EndpointFailed, MemoryNotAllowed) as error:  # too little memory, for example; other settings may work
            self._failures[size] = error
            stages.failed()

    @property
    def _seeds(self) -> set[int]:
        return {sample.seed for series in self._series.values() for sample in series.samples}

    @property
    def _logged(self) -> bool:
        """Whether every image's billed duration is known. If not, none is used: the two kinds cannot be mixed."""
        return not self._log.missing(self._seeds)

    def _setting(self, size: int) -> MemorySetting:
        series, error = self._series.get(size), self.errors.get(size)
        current = size == self.function.memory_mb
        fix = error.fix if error else ""
        cold = series.warm_up.seconds if series and series.warm_up and series.warm_up.cold else None
        samples = self._samples_with(size, series)
        if not samples:
            why = error.message if error else "Every image was a cold start, or was generated with another memory size."
            return MemorySetting(memory_mb=size, current=current, cold_start_seconds=cold, error=why, fix=fix)
        billed = statistics.median(
            self._log.invocations[sample.seed].billed if self._logged else sample.engine_seconds for sample in samples
        )
        return MemorySetting(
            memory_mb=size,
            current=current,
            images=len(samples),
            cold_start_seconds=cold,
            latency_seconds=Stats.of(sample.seconds for sample in samples),
            billed_seconds=round(billed, 4),
            billed_source="log" if self._logged else "timings",
            dollars_per_image=self.function.price(billed, size),
            error=error.message if error else None,
            fix=fix,
        )

    def _samples_with(self, size: int, series: Series | None) -> list[Sample]:
        """The samples of a setting, without those from an environment with an earlier setting."""
        samples = series.samples if series else []
        return [sample for sample in samples if self._log.memory_mb(sample.seed) in (None, size)]
