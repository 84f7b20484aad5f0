"""stages.py: the progress of a command on a stream."""

from __future__ import annotations

import contextlib
import io
import itertools
import os

import pytest

from lambdiff.stages import Stages


def test_each_stage_has_a_line() -> None:
    """With its duration and how it ended; the next stage ends it."""
    stream = io.StringIO()
    stages = Stages(stream, clock=itertools.count(step=1.5).__next__)
    stages.stage("one")
    stages.stage("one")
    stages.stage("two")
    stages.failed()
    stages.done()
    stages.say("three")
    assert stream.getvalue() == "   1.5 s  one\n   1.5 s  two  failed\nthree\n"
    assert stages.times == {"one": 1.5, "two": 1.5}


def test_quiet_stages_are_measured() -> None:
    """Nothing is printed."""
    stream = io.StringIO()
    stages = Stages(stream, quiet=True, clock=itertools.count().__next__)
    stages.stage("one")
    stages.detail("half of it")
    stages.done()
    stages.say("two")
    assert (stream.getvalue(), stages.times) == ("", {"one": 1})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of rich, which keeps writing
@pytest.mark.parametrize("kind", ["pipe", "terminal", "file"])
def test_a_closed_stream_does_not_stop_the_work(kind: str) -> None:
    """A pipe without a reader, a closed terminal, a closed file: stages continue without output."""
    reader, writer = os.openpty() if kind == "terminal" else os.pipe()
    stream = os.fdopen(writer, "w", buffering=1)
    assert stream.isatty() == (kind == "terminal")
    stages = Stages(stream)
    stages.stage("one")
    if kind == "file":
        stream.close()
    os.close(reader)
    stages.stage("two")
    stages.failed()
    stages.say("three")
    assert list(stages.times) == ["one", "two"]
    with contextlib.suppress(OSError):
        stream.close()
