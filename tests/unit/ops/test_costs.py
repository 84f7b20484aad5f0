"""Prices and what is made of them."""

from __future__ import annotations

import json

import pytest

from lambdiff import pricing
from lambdiff.aws import report_lines
from lambdiff.aws.deployment import select
from lambdiff.ops import costs
from support.made_stack import OUTPUTS, make_function, make_logs, make_stack, save_deployment

SETTINGS = {"memory_mb": 10_240, "architecture": "x86_64", "tmp_mb": 512, "snapstart": False}


def report(request_id: str, billed: int, extra: str = "") -> str:
    """Lambda's line after a request."""
    return (
        f"REPORT RequestId: {request_id}\tDuration: {billed - 0.5} ms\tBilled Duration: {billed} ms\t"
        f"Memory Size: 10240 MB\tMax Memory Used: 900 MB\t{extra}"
    )


def drawn(request_id: str) -> str:
    """The handler's line after a picture."""
    return json.dumps({"level": "INFO", "request_id": request_id, "status": 200, "timings": {"denoise": 1.0}})


def test_one_invocation_by_hand() -> None:
    """10 GB for 10 s: 100 GB-s at $0.0000166667, and one request; /tmp beyond 512 MB is extra; Arm is a fifth less."""
    assert pricing.invocation(10_240, 10) == pytest.approx(0.00166667 + 0.0000002, rel=1e-6)
    assert pricing.invocation(10_240, 10, architecture="arm64") == pytest.approx(0.00133334 + 0.0000002, rel=1e-6)
    assert pricing.invocation(10_240, 10, tmp_mb=1536) - pricing.invocation(10_240, 10) == pytest.approx(3.09e-7)


@pytest.mark.parametrize(("memory", "seconds", "images"), [(10_240, 10, 4_000), (1024, 1, 400_000), (128, 0.1, 10**6)])
def test_the_free_tier_ends_with_seconds_or_with_requests(memory: int, seconds: float, images: int) -> None:
    """400,000 GB-s or a million requests, whichever comes first."""
    assert pricing.free_images(memory, seconds) == images


def test_reports_are_read_in_both_forms() -> None:
    """Text and JSON, with cold starts and restores; pictures by the handler's line; everything else is passed over."""
    platform = {
        "type": "platform.report",
        "record": {
            "requestId": "d",
            "metrics": {"billedDurationMs": 2000, "memorySizeMB": 512, "restoreDurationMs": 700, "durationMs": 1900.5},
        },
    }
    lines = [
        "START RequestId: a Version: $LATEST",
        report("a", 5000, "Init Duration: 1500.00 ms\t"),
        drawn("a"),
        report("b", 40),
        json.dumps({"level": "INFO", "request_id": "b", "status": 200}),
        json.dumps(platform),
        '{"broken',
        "[1, 2]",
    ]
    found = {each.request_id: each for each in report_lines.invocations(lines)}
    assert set(found) == {"a", "b", "d"}
    assert (found["a"].billed, found["a"].cold, found["a"].picture) == (5.0, 1.5, True)
    assert (found["b"].picture, found["b"].cold, found["b"].memory_mb) == (False, 0.0, 10_240)
    assert (found["d"].billed, found["d"].cold) == (2.0, 0.7)


def test_a_month_is_pictures_and_what_idles() -> None:
    """The mean over warm and cold pictures; the free tier takes off the first ones."""
    found = report_lines.invocations(
        [report("a", 15_000, "Init Duration: 5000 ms\t"), drawn("a"), report("b", 5000), drawn("b")]
    )
    cost = costs.summarise("x", found, SETTINGS, {"secret": 0.4})
    mean = pricing.invocation(10_240, 10)
    assert (cost.images, cost.cold_starts, cost.seconds_warm, cost.seconds_cold) == (2, 1, 5.0, 15.0)
    assert cost.dollars_per_image == pytest.approx(mean)
    assert cost.free_images == 4_000
    assert [month.images for month in cost.months] == [100, 1_000, 10_000]
    assert cost.months[2].dollars == pytest.approx(0.4 + 10_000 * mean)
    assert cost.months[2].with_free_tier == pytest.approx(0.4 + 6_000 * mean)
    assert cost.months[0].with_free_tier == pytest.approx(0.4)


def test_without_pictures_there_is_no_price_of_one() -> None:
    """Nothing is made up from health checks."""
    cost = costs.summarise("x", report_lines.invocations([report("b", 40)]), SETTINGS, {})
    assert (cost.images, cost.dollars_per_image, cost.months) == (0, None, [])


def test_a_deployment_is_measured_by_its_log(aws: None) -> None:
    """Function, log and stack together."""
    make_stack()
    make_function()
    make_logs(report("a", 3000), drawn("a"))
    save_deployment()
    cost = costs.cost(select(), since=0)
    assert (cost.name, cost.images, cost.memory_mb, cost.seconds_warm) == ("lambdiff", 1, 3008, 3.0)
    assert cost.idle == {"secret": 0.4, "three alarms": pytest.approx(0.3)}
    assert OUTPUTS["FunctionName"] == select().function
