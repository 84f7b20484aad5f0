"""Reading billed durations from the function's log (bench/billed_log.py)."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from lambdiff.aws import logs
from lambdiff.bench.billed_log import by_seed
from lambdiff.errors import CredentialsError
from lambdiff.stages import Stages
from support.sweep_cloud import HANDLER_SECONDS, Cloud, MakeSweep, quiet, yes


def test_without_the_log_the_handlers_timings_are_used(
    cloud: Cloud, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the log cannot be read, the cost is based on the handler's timings, and a note says so."""

    def refuse(*_: Any, **__: Any) -> None:
        raise CredentialsError("no logs:FilterLogEvents")

    monkeypatch.setattr(logs, "read", refuse)
    sweep = make_sweep(10_240)
    sweep.run(quiet(), yes)
    report = sweep.report()
    assert {each.billed_source for each in report.settings} == {"timings"}
    assert [each.billed_seconds for each in report.settings] == [HANDLER_SECONDS, HANDLER_SECONDS]
    (note,) = report.notes
    assert "the log cannot be read: no logs:FilterLogEvents" in note


def test_a_late_log_is_awaited_for_a_limited_time(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If REPORT lines do not appear in time, the handler's timings are used, and a note says so."""
    cloud.reported = False
    sweep = make_sweep(10_240)
    sweep.run(quiet(), yes)
    assert {each.billed_source for each in sweep.report().settings} == {"timings"}
    assert "4 images are not in the log yet" in sweep.report().notes[0]


def test_billed_and_handler_durations_are_not_mixed(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If the log lacks one setting's images, the handler's timings are used for all settings, and a note says so."""

    def lag(size: int, _: int) -> None:
        cloud.reported = size == 3008

    cloud.before_image = lag
    sweep = make_sweep(10_240)
    sweep.run(quiet(), yes)
    report = sweep.report()
    assert [each.billed_source for each in report.settings] == ["timings", "timings"]
    assert [each.billed_seconds for each in report.settings] == [HANDLER_SECONDS, HANDLER_SECONDS]
    (note,) = report.notes
    assert note.startswith("The billed durations are the handler's own")
    assert "2 images are not in the log yet" in note


def test_an_interruption_while_the_log_is_read_is_reported(
    cloud: Cloud, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the log is read ends the stage as failed, and a note says that the log was not read."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "read", interrupted)
    output = io.StringIO()
    sweep = make_sweep(2048)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(Stages(output), yes)
    assert output.getvalue().endswith("Reading billed durations from the log  failed\n")
    assert "because the log was not read" in sweep.report().notes[0]


def test_images_of_an_old_environment_do_not_count(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """An image whose REPORT line states another memory size is left out."""
    cloud.reported_memory = lambda _: 3008
    sweep = make_sweep(10_240)
    sweep.run(quiet(), yes)
    current, large = sweep.report().settings
    assert current.images == 2
    assert (large.images, large.latency_seconds) == (0, None)
    assert large.error is not None
    assert "another memory size" in large.error


def test_log_lines_are_matched_to_images_by_seed() -> None:
    """`by_seed` joins the handler's lines, which have the seeds, with Lambda's REPORT lines."""
    lines = [
        json.dumps({"request_id": "a", "status": 200, "parameters": {"seed": 7}, "timings": {}}),
        json.dumps({"request_id": "lost", "parameters": {"seed": 8}}),
        json.dumps({"request_id": "a"}),
        "START RequestId: a Version: $LATEST",
        "[1]",
        "REPORT RequestId: a\tBilled Duration: 1500 ms\tMemory Size: 512 MB",
    ]
    ((seed, invocation),) = by_seed(lines).items()
    assert (seed, invocation.billed, invocation.memory_mb) == (7, 1.5, 512)
