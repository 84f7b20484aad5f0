"""waitress connections for strangers: they cut off slow senders, and keep no body of a request that will be refused.

waitress's own errors become problem documents.
"""

from __future__ import annotations

import functools
import io
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]

from lambdiff.printable import printable
from lambdiff.protocol.headers import PROBLEM_JSON
from lambdiff.protocol.problems import make_problem

Acceptable = Callable[[Any], bool]
"""Takes a waitress parser that has read the headers of a request, and tells whether the request may be accepted."""

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


class _Discarded:
    """Stands in for the buffer of a body that nobody will read."""

    def append(self, data: bytes) -> None:
        """Drop the data."""

    def getfile(self) -> io.BytesIO:
        """Return an empty file."""
        return io.BytesIO()

    def close(self) -> None:
        """Nothing to close."""

    def __len__(self) -> int:
        return 0


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Reads a request. The body is discarded as it arrives if the headers show that it will be refused."""

    def __init__(self, adjustments: Any, acceptable: Acceptable) -> None:
        super().__init__(adjustments)
        self._acceptable = acceptable

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the headers; waitress calls this when they are complete."""
        super().parse_header(header_plus)
        if self.body_rcv is not None and not self._acceptable(self):
            self.body_rcv.buf = _Discarded()


class Connection(HTTPChannel):  # type: ignore[misc]
    """A connection that is closed if a request takes too long to arrive.

    waitress's own timeout counts from the last byte, so it would never cut off a client that sends a byte now and then.

    Args:
        receive_seconds: how long a request may take to arrive.
        acceptable: decides by a request's headers whether its body is kept.
        clock: the monotonic time in seconds.
    """

    error_task_class = _ProblemTask

    def __init__(
        self,
        *arguments: Any,
        receive_seconds: float,
        acceptable: Acceptable,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        self.parser_class = functools.partial(_Parser, acceptable=acceptable)
        self._receive_seconds = receive_seconds
        self._clock = clock
        self._waiting_since = clock()
        super().__init__(*arguments, **options)

    @property
    def waiting_seconds(self) -> float:
        """How long the current request has been arriving, or how long ago the last one arrived."""
        return self._clock() - self._waiting_since

    @property
    def answering(self) -> bool:
        """Whether a request is being answered or a reply is being sent."""
        return bool(self.requests or self.total_outbufs_len)

    def received(self, data: bytes) -> bool:
        """Process the next bytes. waitress calls this; False closes the connection."""
        arriving = self.request
        if arriving is not None and self.waiting_seconds > self._receive_seconds:
            self.will_close = True
            return False
        accepted: bool = super().received(data)
        if self.request is None or self.request is not arriving:
            self._waiting_since = self._clock()
        return accepted


class OncePerMinute(logging.Filter):
    """Lets each kind of message through once a minute, safe to print: strangers can cause thousands of them.

    Args:
        clock: the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._shown: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to show a record."""
        now, kind = self._clock(), (record.filename, record.lineno)
        if now - self._shown.get(kind, now - 60) < 60:
            return False
        self._shown[kind] = now
        record.msg, record.args = printable(record.getMessage()), ()
        return True
