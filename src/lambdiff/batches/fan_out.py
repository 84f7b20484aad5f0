"""How many requests are sent at once: as many as the endpoint accepts, found by trying.

As in TCP (Jacobson 1988, "Congestion Avoidance and Control"): the limit grows by one with each image until something is
throttled. Then it halves, and grows by about one with each round of requests. Requests that are refused as one burst
count once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

_START: Final = 4
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 20.0


class FanOut:
    """The current limit. May be used from several threads.

    Args:
        most: the limit never exceeds it.
        clock: seconds, monotonic.

    Example:
        >>> fan_out = FanOut(most=16)
        >>> fan_out.limit
        4
        >>> fan_out.succeeded()
        >>> fan_out.limit
        5
        >>> fan_out.throttled(fan_out.start()) > 0
        True
        >>> fan_out.limit
        2
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._mutex = threading.Lock()
        self._limit = float(min(_START, most))
        self._exploring = True
        self._running = 0
        self._reduced_at = float("-inf")
        self._pause = _FIRST_PAUSE_S
        self._paused_until = float("-inf")

    @property
    def limit(self) -> int:
        """How many requests may run at once."""
        return int(self._limit)

    @property
    def is_open(self) -> bool:
        """Whether one more request may start now."""
        with self._mutex:
            return self._running < int(self._limit) and self._clock() >= self._paused_until

    def start(self) -> float:
        """Count one more request, and return when it began."""
        with self._mutex:
            self._running += 1
            return self._clock()

    def end(self) -> None:
        """Count one request less, however it ended."""
        with self._mutex:
            self._running -= 1

    def succeeded(self) -> None:
        """Take note of an image: nothing was throttled."""
        with self._mutex:
            self._limit = min(self._limit + (1.0 if self._exploring else 1.0 / self._limit), self._most)
            self._pause = _FIRST_PAUSE_S

    def throttled(self, started: float) -> float:
        """Take note of a request that was not accepted, and return the seconds to wait before the next one.

        Args:
            started: when it began, from `start`. What began before the last reduction belongs to the same burst.
        """
        with self._mutex:
            if started >= self._reduced_at:
                self._reduced_at = self._clock()
                self._limit = max(self._limit / 2, 1.0)
                self._exploring = False
                self._paused_until = self._reduced_at + self._pause
                self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
            return max(self._paused_until - self._clock(), 0.0)
