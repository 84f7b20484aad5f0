"""infra/report.py: stages on a stream."""

from __future__ import annotations

import contextlib
import io
import os
import re

import pytest

from lambdiff.stages import Stages


def test_a_line_for_each_stage() -> None:
    """With its time and how it ended; a stage ends when the next one begins."""
    stream = io.StringIO()
    report = Stages(stream)
    report.stage("one")
    report.stage("two")
    report.failed()
    report.say("three")
    assert re.fullmatch(r" +0\.\d s  one\n +0\.\d s  two  failed\nthree\n", stream.getvalue())
    assert list(report.times) == ["one", "two"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # rich's, which writes meanwhile
@pytest.mark.parametrize("kind", ["pipe", "terminal", "file"])
def test_nobody_reads(kind: str) -> None:
    """A pipe without a reader, a closed terminal, a closed file: the stages go on, unseen."""
    reader, writer = os.openpty() if kind == "terminal" else os.pipe()
    stream = os.fdopen(writer, "w", buffering=1)
    assert stream.isatty() == (kind == "terminal")
    report = Stages(stream)
    report.stage("one")
    if kind == "file":
        stream.close()
    os.close(reader)
    report.stage("two")
    report.failed()
    report.say("three")
    assert list(report.times) == ["one", "two"]
    with contextlib.suppress(OSError):
        stream.close()
