"""Progress messages of long commands (stages.py)."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import select

import pytest

from lambdiff.stages import Stages


def test_each_stage_is_printed_with_its_duration() -> None:
    """A line is printed when a stage ends, which the next stage causes; a failed stage is marked."""
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


def test_quiet_stages_are_measured_but_not_printed() -> None:
    """With `quiet=True` nothing is printed, and durations are still recorded."""
    stream = io.StringIO()
    stages = Stages(stream, quiet=True, clock=itertools.count().__next__)
    stages.stage("one")
    stages.detail("half of it")
    stages.done()
    stages.say("two")
    assert (stream.getvalue(), stages.times) == ("", {"one": 1})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # from rich's refresh thread
@pytest.mark.parametrize("kind", ["pipe", "terminal", "file"])
def test_a_closed_stream_does_not_stop_the_work(kind: str) -> None:
    """If the pipe, terminal or file is closed, stages continue without output."""
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


def test_details_are_shown_as_they_are() -> None:
    """A tool's output is neither read as rich's markup nor as control sequences."""
    reader, writer = os.openpty()
    with os.fdopen(writer, "w", buffering=1) as stream:
        stages = Stages(stream)
        stages.stage("Building")
        stages.detail("RUN [/nope] [red]\x1b]0;title\x07")
        stages.done()
        stages.say("\x9b2J")
        shown = ""
        while "2J" not in shown and select.select([reader], [], [], 10)[0]:  # a terminal delivers in pieces
            shown += os.read(reader, 65536).decode()
    os.close(reader)
    assert r"RUN [/nope] [red]\x1b]0;title\x07" in shown
    assert r"\x9b2J" in shown
