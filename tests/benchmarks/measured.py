"""Figures from the results: values by round, medians, and ratios of contenders within the same rounds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import plan

PHASES: Final = ("load", "encode", "denoise", "decode", "compress")


@dataclass(frozen=True)
class Stats:
    """The median, minimum, maximum and number of some values."""

    median: float
    min: float
    max: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Stats | None:
        """Return the statistics of some values; None if there are none."""
        return cls(statistics.median(values), min(values), max(values), len(values)) if values else None

    def text(self, unit: str = "", digits: int = 2) -> str:
        """Return the median, followed by the range if there is more than one value."""
        if self.count == 1:
            return f"{self.median:.{digits}f}{unit}"
        return f"{self.median:.{digits}f}{unit} ({self.min:.{digits}f} to {self.max:.{digits}f})"


@dataclass(frozen=True)
class Measured:
    """The results of `run.py`."""

    results: dict[str, Any]

    def runs(self, row: str, isa: str = "native", sweep: str = "") -> list[dict[str, Any]]:
        """Return the entries of a row's finished processes."""
        finished = [run for run in self.results["runs"] if "failed" not in run]
        return [run for run in finished if (run["row"], run["isa"], run["sweep"]) == (row, isa, sweep)]

    def by_round(self, row: str, isa: str, quantity: str) -> dict[int, float]:
        """Return a quantity of a row in each round; see `value`."""
        values = {run["round"]: self.value(run, quantity) for run in self.runs(row, isa)}
        return {turn: value for turn, value in values.items() if value is not None}

    def stats(self, row: str, isa: str, quantity: str) -> Stats | None:
        """Return the statistics of a quantity over all rounds."""
        return Stats.of(list(self.by_round(row, isa, quantity).values()))

    def ratio(self, base: str, row: str, isa: str, quantity: str) -> Stats | None:
        """Return how many times larger a quantity is for `base`, over the rounds that have both rows."""
        ours, theirs = self.by_round(row, isa, quantity), self.by_round(base, isa, quantity)
        return Stats.of([theirs[turn] / ours[turn] for turn in ours if turn in theirs])

    def target(self, target: plan.Target) -> Stats | None:
        """Return the measured value of a target."""
        if target.quantity == "achieved":
            return self.stats(target.row, target.isa, "achieved")
        if target.quantity == "peak_mb":
            return self.ratio(target.row, target.base, target.isa, "peak_mb")
        return self.ratio(target.base, target.row, target.isa, target.quantity)

    def value(self, run: dict[str, Any], quantity: str) -> float | None:
        """Return one figure of one process; None if it was not measured.

        Args:
            run: an entry of the results.
            quantity: `warm` (the median of the requests after the first, or the only request), a phase of those
                requests, `loading` (before or within the first request), `achieved`, or a key of the entry.
        """
        if quantity == "warm":
            return statistics.median(run["warm"] or [run["first"]])
        if quantity == "loading":
            return float(run["load"] + run["first_phases"].get("load", 0.0))
        if quantity == "achieved":
            return self._achieved(run)
        if quantity in PHASES:
            values = [phases[quantity] for phases in run["phases"] or [run["first_phases"]] if quantity in phases]
            return statistics.median(values) if values else None
        return float(run[quantity])

    def _achieved(self, run: dict[str, Any]) -> float | None:
        """Return the UNet's operations per second, as a part of those of the machine's fastest matrix product."""
        precision = run["arithmetic"] or run["versions"].get("engine", "").rpartition(" ")[2]
        peak = self.results["gemm"].get(run["isa"], {}).get(str(run["threads"]), {}).get(precision)
        seconds = self.value(run, "denoise")
        if not peak or not seconds or not run["calls"]:
            return None
        work = self.results["work"][str(run["size"])]
        return sum(count * float(work[part]) for part, count in run["calls"].items()) / 1e9 / seconds / float(peak)
