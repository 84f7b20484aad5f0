"""The progress bar: what it says, and how it fits into any terminal (cli/progress.py, terminal.py)."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest

from lambdiff import terminal
from lambdiff.cli.progress import Progress, bar
from lambdiff.terminal import ascii_only, open_console


class Transport:
    """What a transport reports about the request in progress."""

    activity = ""
    step = (0, 0)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def transport() -> Transport:
    """A transport that reports nothing yet."""
    return Transport()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at 0."""
    return Clock()


def test_loading_and_compiling_are_named(transport: Transport) -> None:
    """The status is what the engine does, then the step, then that the image is being finished."""
    progress = Progress(transport)
    said = []
    for activity, step in (
        ("loading the model", (0, 0)), ("compiling the model", (0, 0)), ("", (0, 0)), ("", (3, 8)), ("", (8, 8)),
        ("", (0, 0)),
    ):  # fmt: skip
        transport.activity, transport.step = activity, step
        said.append(progress.status[0])
    assert said == ["loading the model", "compiling the model", "generating", "step 3 of 8", "finishing", "finishing"]


def test_several_images_are_counted(transport: Transport) -> None:
    """With -n the number of finished images comes first, and is what remains on a narrow terminal."""
    progress = Progress(transport, 6)
    transport.activity = "loading the model"
    assert progress.status == ["0 of 6, loading the model", "0 of 6"]
    transport.activity = ""
    assert progress.status == ["0 of 6 images", "0 of 6"]
    progress.advance()
    progress.advance()
    transport.step = (4, 8)
    assert progress.status == ["2 of 6, step 4 of 8", "2 of 6"]
    assert progress.fraction == pytest.approx(2.5 / 6)


def test_a_transport_that_reports_nothing_is_generating() -> None:
    """A remote endpoint replies in one piece, so the bar pulses."""
    progress = Progress(object())
    assert progress.status == ["generating"]
    assert progress.fraction is None


def test_the_time_left_comes_from_the_last_image_and_then_from_the_steps(transport: Transport, clock: Clock) -> None:
    """As soon as two steps are known they are what counts, however long loading took."""
    progress = Progress(transport, expected=8.0, startup=4.0, clock=clock)
    assert progress.seconds_left == 12.0
    clock.now = 5.0
    assert progress.seconds_left == 7.0
    clock.now, transport.step = 20.0, (1, 8)
    assert progress.fraction == 1 / 8
    assert progress.seconds_left is None
    clock.now, transport.step = 23.0, (2, 8)
    assert progress.seconds_left == 18.0


def test_the_time_left_of_several_images(transport: Transport, clock: Clock) -> None:
    """Before the first image, images that are generated at once count once; afterwards the pace so far counts."""
    progress = Progress(transport, 6, expected=8.0, parallel=4, clock=clock)
    assert progress.seconds_left == 16.0
    progress.advance()
    progress.advance()
    clock.now = 10.0
    assert progress.seconds_left == pytest.approx(20.0)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
@pytest.mark.parametrize("width", [200, 80, 40, 20, 10])
@pytest.mark.parametrize(("activity", "step", "count"), [
    ("compiling the model", (0, 0), 1), ("", (3, 100), 1), ("", (97, 100), 1000), ("loading the model", (0, 0), 1000),
])  # fmt: skip
def test_a_line_fits_into_the_terminal(
    transport: Transport, clock: Clock, monkeypatch: pytest.MonkeyPatch,
    encoding: str, width: int, activity: str, step: tuple[int, int], count: int,
) -> None:  # fmt: skip
    """The bar is one line that leaves the last column free, with the characters that the terminal has."""
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    transport.activity, transport.step = activity, step
    progress = Progress(transport, count, expected=100.0, clock=clock)
    clock.now = 754.0
    open_console(stream).print(progress)
    stream.flush()
    (line,) = stream.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]
    assert len(line.rstrip()) < width
    assert encoding == "utf-8" or line.isascii()
    full, short = progress.status[0], progress.status[-1]
    assert (full if width >= 40 else short[: width - 3]) in line
    assert ("12:34" in line) == (width >= 40 or (len(short) <= 11 and width == 20))


@pytest.mark.parametrize(
    ("encoding", "variables", "wanted"),
    [
        ("utf-8", {"LANG": "de_DE.UTF-8"}, False),
        ("utf-8", {"LC_ALL": "C.UTF-8", "LANG": "C"}, False),
        ("utf-8", {"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, True),
        ("utf-8", {"LC_CTYPE": "POSIX"}, True),
        ("utf-8", {}, True),
        ("cp1252", {"LANG": "de_DE.UTF-8"}, True),
        ("latin-1", {"LANG": "de_DE.UTF-8"}, True),
        ("ascii", {"LANG": "C"}, True),
    ],
)
@pytest.mark.linux
def test_what_a_terminal_can_show(
    monkeypatch: pytest.MonkeyPatch, encoding: str, variables: dict[str, str], wanted: bool
) -> None:
    """The C locale means ASCII, although Python writes UTF-8 in it; so does an encoding that lacks the characters."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ascii_only(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) is wanted


@pytest.mark.linux
@pytest.mark.parametrize(("term", "wanted"), [("xterm-256color", True), ("dumb", False)])
def test_a_bar_needs_a_terminal_that_can_redraw(monkeypatch: pytest.MonkeyPatch, term: str, wanted: bool) -> None:
    """A pipe and a dumb terminal get no control characters."""
    monkeypatch.setenv("TERM", term)
    ours, theirs = os.openpty()
    with open(theirs, "w") as stream:
        assert terminal.can_redraw(stream) is wanted
        monkeypatch.setattr("sys.stderr", stream)
        with bar(Progress(Transport())):
            pass
        stream.flush()
        os.set_blocking(ours, False)
        if wanted:
            assert b"generating" in os.read(ours, 10_000)
        else:
            with pytest.raises(BlockingIOError):
                os.read(ours, 1)
    os.close(ours)
    assert not terminal.can_redraw(io.StringIO())


def test_the_bar_can_be_turned_off(capsys: pytest.CaptureFixture[Any]) -> None:
    """With --quiet nothing is printed."""
    with bar(Progress(Transport()), show=False) as progress:
        progress.advance()
    assert capsys.readouterr() == ("", "")
