"""One request in progress: its deadline, the duration of its phases, and its log entry."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from lambdiff.protocol.contract import OnStep
from lambdiff.protocol.http import HttpRequest

MAX_MARGIN: Final = 1.5
"""Maximum seconds reserved before the function's timeout for encoding and sending the reply."""


@dataclass
class Call:
    """A request in progress.

    Attributes:
        request: as it arrived.
        on_step: the caller's callback; see `Engine.generate`.
        clock: the monotonic time in seconds; the request's deadline refers to it.
        timings: seconds by phase.
        log_entry: further fields of the log line.
        soft_deadline: the time on the clock after which no further step may begin; None if the request has no deadline.
            The margin before the deadline is a quarter of the available time, at most `MAX_MARGIN`.
    """

    request: HttpRequest
    on_step: OnStep | None = None
    clock: Callable[[], float] = time.monotonic
    timings: dict[str, float] = field(default_factory=dict)
    log_entry: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._started = self.clock()
        deadline = self.request.deadline
        if deadline is not None:
            deadline -= min(MAX_MARGIN, (deadline - self._started) / 4)
        self.soft_deadline = deadline

    @property
    def seconds(self) -> float:
        """Seconds since the request arrived."""
        return self.clock() - self._started

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the soft deadline, at least 0; None if there is none."""
        return None if self.soft_deadline is None else max(0.0, self.soft_deadline - self.clock())

    def after_step(self, done: int, total: int) -> bool:
        """Whether to cancel the generation, because the caller wants to or the soft deadline has passed."""
        return bool(self.on_step is not None and self.on_step(done, total)) or self.seconds_left == 0
