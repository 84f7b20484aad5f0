"""The billed durations of images, from the REPORT lines in a function's log."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from lambdiff.aws import logs
from lambdiff.aws.account import Account
from lambdiff.aws.report_lines import Invocation, invocations
from lambdiff.errors import LambdiffError

PATIENCE: Final = 60.0
"""Seconds that REPORT lines may take to appear in the log."""
_CLOCK_SKEW: Final = 300.0
"""Seconds by which this machine's clock may be ahead of AWS's; a signature is not valid beyond that."""
_INTERVAL: Final = 2.0


class BilledLog:
    """Lambda's record of each image, by the image's seed.

    Attributes:
        invocations: the ones found so far, by seed.
        problem: why some may be missing.

    Args:
        account: the account of the function.
        log_group: the function's log group.
        clock: seconds, from any starting point.
        sleep: waits the given seconds between two attempts.
        patience: seconds to wait for missing lines.
    """

    def __init__(
        self,
        account: Account,
        log_group: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self.invocations: dict[int, Invocation] = {}
        self.problem = "the log was not read."
        self._account, self._log_group = account, log_group
        self._clock, self._sleep, self._patience = clock, sleep, patience

    def missing(self, seeds: Iterable[int]) -> set[int]:
        """The seeds whose images have not been found."""
        return set(seeds) - self.invocations.keys()

    def memory_mb(self, seed: int) -> int | None:
        """The memory that generated an image; None if it has not been found."""
        invocation = self.invocations.get(seed)
        return invocation.memory_mb if invocation else None

    def read(self, seeds: Iterable[int], since: float) -> None:
        """Read the log until it has all images, or until `patience` runs out. An unreadable log becomes a `problem`.

        Args:
            seeds: the images' seeds.
            since: when the first request was sent, in seconds since 1970.
        """
        wanted = set(seeds)
        deadline = self._clock() + self._patience
        try:
            while True:
                lines = logs.read(self._account, self._log_group, since=since - _CLOCK_SKEW)
                self.invocations = by_seed(line.text for line in lines)
                if not self.missing(wanted) or self._clock() >= deadline:
                    break
                self._sleep(_INTERVAL)
            self.problem = f"{len(self.missing(wanted))} images are not in the log yet."
        except LambdiffError as error:
            self.problem = f"the log cannot be read: {error.message}"


def by_seed(lines: Iterable[str]) -> dict[int, Invocation]:
    """Match Lambda's REPORT lines to images, by the request id and the seed in the handler's own lines."""
    lines = list(lines)
    reports = {invocation.request_id: invocation for invocation in invocations(lines)}
    matched = {}
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # other lines, and JSON from other programs
            entry: dict[str, Any] = json.loads(line)
            matched[int(entry["parameters"]["seed"])] = reports[entry["request_id"]]
    return matched
