"""One request in progress: when it must end, how long its phases took, and what its log line will say."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from lambdiff.protocol.http import HttpRequest, OnStep

MAX_MARGIN: Final = 1.5
"""Seconds, at most, that are reserved before the function's timeout for encoding and sending the reply."""


@dataclass
class Call:
    """A request in progress.

    Attributes:
        request: as it arrived.
        on_step: the caller's callback; see `Engine.generate`.
        clock: the monotonic time in seconds, on the same clock as the request's deadline.
        timings: seconds by phase.
        log_entry: further fields of the log line.
    """

    request: HttpRequest
    on_step: OnStep | None = None
    clock: Callable[[], float] = time.monotonic
    timings: dict[str, float] = field(default_factory=dict)
    log_entry: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def seconds(self) -> float:
        """Seconds since the request arrived."""
        return self.clock() - self._started

    @functools.cached_property
    def soft_deadline(self) -> float | None:
        """When, on the call's clock, no further step may begin; None if nothing limits the request.

        The margin before the deadline is a quarter of the time there is, at most `MAX_MARGIN`.
        """
        deadline = self.request.deadline
        return None if deadline is None else deadline - min(MAX_MARGIN, (deadline - self._started) / 4)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the soft deadline, at least 0; None if there is none."""
        return None if self.soft_deadline is None else max(0.0, self.soft_deadline - self.clock())

    def after_step(self, done: int, total: int) -> bool:
        """Whether to cancel the generation: the caller says so, or the soft deadline has passed."""
        return bool(self.on_step is not None and self.on_step(done, total)) or self.seconds_left == 0
