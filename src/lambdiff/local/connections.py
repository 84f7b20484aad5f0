"""waitress connections that cut off slow senders and report waitress's own errors as problem documents."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]

from lambdiff.protocol.headers import PROBLEM_JSON
from lambdiff.protocol.problems import make_problem

_SLUGS: Final = {413: "payload-too-large", 431: "payload-too-large", 500: "internal-error"}


class _ProblemTask(ErrorTask):  # type: ignore[misc]
    """Answers requests that waitress itself rejects, such as malformed HTTP."""

    def execute(self) -> None:
        error = self.request.error
        document = make_problem(_SLUGS.get(error.code, "malformed-request"), f"{error.reason}: {error.body}"[:200])
        body = msgspec.json.encode(document)
        self.status = f"{document.status} {HTTPStatus(document.status).phrase}"
        self.response_headers.append(("Content-Type", PROBLEM_JSON))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Connection(HTTPChannel):  # type: ignore[misc]
    """A connection that is closed if a request takes too long to arrive.

    waitress's own timeout counts from the last byte, so it would never cut off a client that sends a byte now and then.

    Args:
        receive_seconds: how long a request may take to arrive.
        clock: the monotonic time in seconds.
    """

    error_task_class = _ProblemTask

    def __init__(
        self, *arguments: Any, receive_seconds: float, clock: Callable[[], float] = time.monotonic, **options: Any
    ) -> None:
        self._receive_seconds = receive_seconds
        self._clock = clock
        self._receiving_since: float | None = None
        super().__init__(*arguments, **options)

    @property
    def answering(self) -> bool:
        """Whether a request is being answered or a reply is being sent."""
        return bool(self.requests or self.total_outbufs_len)

    def received(self, data: bytes) -> bool:
        """Process the next bytes. waitress calls this; False closes the connection."""
        since = self._receiving_since
        if since is not None and self._clock() - since > self._receive_seconds:
            self.will_close = True
            return False
        accepted: bool = super().received(data)
        if self.request is None:
            self._receiving_since = None
        elif since is None:
            self._receiving_since = self._clock()
        return accepted
