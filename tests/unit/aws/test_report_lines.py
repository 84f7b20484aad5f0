"""Parsing Lambda's REPORT lines (aws/report_lines.py)."""

from __future__ import annotations

import json

from lambdiff.aws import report_lines
from support.aws_resources import generated_line, report_line


def test_reports_are_read_in_both_formats() -> None:
    """Text and JSON reports are read, with cold starts and restores; the handler's own lines mark images."""
    platform = {
        "type": "platform.report",
        "record": {
            "requestId": "d",
            "metrics": {"billedDurationMs": 2000, "memorySizeMB": 512, "restoreDurationMs": 700, "durationMs": 1900.5},
        },
    }
    lines = [
        "START RequestId: a Version: $LATEST",
        report_line("a", 5000, "Init Duration: 1500.00 ms\t"),
        generated_line("a"),
        report_line("b", 40),
        json.dumps({"level": "INFO", "request_id": "b", "status": 200}),
        json.dumps(platform),
        '{"broken',
        "[1, 2]",
    ]
    found = {each.request_id: each for each in report_lines.invocations(lines)}
    assert set(found) == {"a", "b", "d"}
    assert (found["a"].billed, found["a"].cold_start, found["a"].generated) == (5.0, 1.5, True)
    assert (found["b"].generated, found["b"].cold_start, found["b"].memory_mb) == (False, 0.0, 10_240)
    assert (found["d"].billed, found["d"].cold_start) == (2.0, 0.7)


def test_images_that_loaded_the_model_are_marked() -> None:
    """An invocation counts as `loaded` if the handler's timings have a load phase."""
    lines = [report_line("a", 900), generated_line("a", load=3.0), report_line("b", 900), generated_line("b")]
    assert [each.loaded for each in report_lines.invocations(lines)] == [True, False]
