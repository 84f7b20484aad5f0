"""The cost of a deployment (ops/costs.py)."""

from __future__ import annotations

import dataclasses

import pytest

from lambdiff import pricing
from lambdiff.aws import report_lines
from lambdiff.aws.deployment import select
from lambdiff.aws.function import Function
from lambdiff.errors import CredentialsError
from lambdiff.ops import costs
from support.aws_resources import (
    generated_line,
    make_function,
    make_logs,
    make_stack,
    refusing,
    report_line,
    save_deployment,
)

FUNCTION = Function(
    name="fn", arn="arn", memory_mb=10_240, tmp_mb=512, timeout_s=600, architecture="x86_64", state="Active",
    updating=False, snapstart=False, log_group="group", image_uri="",
)  # fmt: skip


def test_a_month_costs_its_images_and_idle_resources() -> None:
    """A month costs its idle resources and the mean price of each image; the free tier covers the first images."""
    measured = report_lines.invocations(
        [
            report_line("a", 15_000, "Init Duration: 5000 ms\t"),
            generated_line("a"),
            report_line("b", 5000),
            generated_line("b"),
        ]
    )
    cost = costs.summarize("x", measured, FUNCTION, {"secret": 0.4})
    mean = pricing.invocation(10_240, 10)
    assert (cost.images, cost.cold_starts, cost.seconds_warm, cost.seconds_cold) == (2, 1, 5.0, 15.0)
    assert cost.dollars_per_image == pytest.approx(mean)
    assert cost.free_images == 4_000
    assert [month.images for month in cost.months] == [100, 1_000, 10_000]
    assert cost.months[2].dollars == pytest.approx(0.4 + 10_000 * mean)
    assert cost.months[2].with_free_tier == pytest.approx(0.4 + 6_000 * mean)
    assert cost.months[0].with_free_tier == pytest.approx(0.4)


def test_without_images_there_is_no_price() -> None:
    """If the log contains only health checks, no price is computed."""
    cost = costs.summarize("x", report_lines.invocations([report_line("b", 40)]), FUNCTION, {})
    assert (cost.images, cost.dollars_per_image, cost.months) == (0, None, [])


def test_the_cost_is_read_from_function_log_and_stack(aws: None) -> None:
    """The cost of a deployment follows from its function, its log and its stack."""
    make_stack()
    make_function()
    make_logs(report_line("a", 3000), generated_line("a"))
    save_deployment()
    cost = costs.cost(select(), since=0)
    assert (cost.name, cost.images, cost.memory_mb, cost.seconds_warm) == ("lambdiff", 1, 3008, 3.0)
    assert cost.idle == {"secret": 0.4, "three alarms": pytest.approx(0.3)}


def test_a_missing_permission_is_reported(aws: None) -> None:
    """If the function may not be read, the error contains AWS's reason."""
    make_stack()
    make_function()
    save_deployment()
    target = select()
    target = dataclasses.replace(target, account=refusing(target.account, "GetFunction"))
    with pytest.raises(CredentialsError, match="AWS's reason"):
        costs.cost(target, since=0)
