"""Figures from results: values by round, medians, ratios of contenders that ran side by side."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import plan

PHASES: Final = ("load", "encode", "denoise", "decode", "compress")


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some values, and how many there are."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """None of no values."""
        return cls(statistics.median(values), min(values), max(values), len(values)) if values else None

    def text(self, unit: str = "", digits: int = 2) -> str:
        """The median, and the range where there is more than one value."""
        if self.count == 1:
            return f"{self.median:.{digits}f}{unit}"
        return f"{self.median:.{digits}f}{unit} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True)
class Measured:
    """Questions to a results file."""

    results: dict[str, Any]

    def runs(self, row: str, isa: str = "native", sweep: str = "") -> list[dict[str, Any]]:
        """A row's finished processes."""
        found = [run for run in self.results["runs"] if "failed" not in run]
        return [run for run in found if (run["row"], run["isa"], run["sweep"]) == (row, isa, sweep)]

    def by_round(self, row: str, isa: str, quantity: str) -> dict[int, float]:
        """A quantity of a row in each round; see `value`."""
        found = {run["round"]: self.value(run, quantity) for run in self.runs(row, isa)}
        return {turn: value for turn, value in found.items() if value is not None}

    def spread(self, row: str, isa: str, quantity: str) -> Spread | None:
        """The same over all rounds."""
        return Spread.of(list(self.by_round(row, isa, quantity).values()))

    def ratio(self, base: str, row: str, isa: str, quantity: str) -> Spread | None:
        """How many times larger a quantity is for `base`, in the rounds that both took part in."""
        ours, theirs = self.by_round(row, isa, quantity), self.by_round(base, isa, quantity)
        return Spread.of([theirs[turn] / ours[turn] for turn in ours if turn in theirs])

    def target(self, target: plan.Target) -> Spread | None:
        """What was reached of a target."""
        if target.quantity == "achieved":
            return self.spread(target.row, target.isa, "achieved")
        if target.quantity == "peak_mb":
            return self.ratio(target.row, target.base, target.isa, "peak_mb")
        return self.ratio(target.base, target.row, target.isa, target.quantity)

    def value(self, run: dict[str, Any], quantity: str) -> float | None:
        """One figure of one process.

        Args:
            run: an entry of the results.
            quantity: `warm` (the median of its later requests, or its only one's), a phase of those requests,
                `loading` (before or within the first request), `achieved`, or a key of the entry.
        """
        if quantity == "warm":
            return statistics.median(run["warm"] or [run["first"]])
        if quantity == "loading":
            return float(run["load"] + run["first_phases"].get("load", 0.0))
        if quantity == "achieved":
            return self._achieved(run)
        if quantity in PHASES:
            found = [phases[quantity] for phases in run["phases"] or [run["first_phases"]] if quantity in phases]
            return statistics.median(found) if found else None
        return float(run[quantity])

    def _achieved(self, run: dict[str, Any]) -> float | None:
        """Operations per second of the UNet's calls over those of the machine's quickest product of matrices."""
        precision = run["arithmetic"] or run["versions"].get("engine", "").rpartition(" ")[2]
        peak = self.results["gemm"].get(run["isa"], {}).get(str(run["threads"]), {}).get(precision)
        seconds = self.value(run, "denoise")
        if not peak or not seconds or not run["calls"]:
            return None
        work = self.results["work"][str(run["size"])]
        return sum(count * float(work[part]) for part, count in run["calls"].items()) / 1e9 / seconds / float(peak)
