"""The raw measurements of a benchmark: one sample for each image, one series for each configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from lambdiff.errors import LambdiffError
from lambdiff.protocol.contract import Generation


@dataclass(frozen=True)
class Sample:
    """The measurements of one image.

    Attributes:
        seed: unique among the samples, so that the image can be found in the function's log.
        seconds: how long the caller waited.
        phases: seconds by phase in the endpoint, without time in the queue.
        dollars: from the phases' time and the deployment's memory size; None if that is unknown.
    """

    seed: int
    seconds: float
    phases: dict[str, float]
    dollars: float | None

    @property
    def cold(self) -> bool:
        """Whether the model was loaded for this image."""
        return "load" in self.phases

    @property
    def engine_seconds(self) -> float:
        """The sum of the phases."""
        return sum(self.phases.values())


@dataclass
class Series:
    """The samples of one configuration so far.

    Attributes:
        generation: the configuration.
        warm_up: the first image, which is excluded from the statistics.
        samples: the later images, cold starts excluded.
        cold_starts: how many later images were cold starts.
        error: why the configuration was skipped, if it was.
    """

    generation: Generation
    warm_up: Sample | None = None
    samples: list[Sample] = field(default_factory=list)
    cold_starts: int = 0
    error: LambdiffError | None = None

    def add(self, sample: Sample, *, warm_up: bool) -> None:
        """Add the next sample."""
        if warm_up:
            self.warm_up = sample
        elif sample.cold:
            self.cold_starts += 1
        else:
            self.samples.append(sample)
