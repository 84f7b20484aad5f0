"""Summary statistics of repeated measurements."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from msgspec import Struct


class Stats(Struct, frozen=True, kw_only=True):
    """Median and range of several measurements of one quantity."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Stats | None:
        """Summarize `values`, rounded to four decimals; None if there are none.

        Example:
            >>> Stats.of([2.0, 1.0, 4.0])
            Stats(median=2.0, min=1.0, max=4.0)
        """
        ordered = sorted(values)
        if not ordered:
            return None
        median, low, high = (round(value, 4) for value in (statistics.median(ordered), ordered[0], ordered[-1]))
        return cls(median=median, min=low, max=high)
