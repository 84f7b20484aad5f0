"""What a run in AWS costs, and what it can cost at most (batches/cloud_plan.py)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lambdiff import pricing
from lambdiff.aws.function import Function
from lambdiff.batches.cloud_plan import ATTEMPTS, INIT_S, Plan, affordable, fixed_cost, item_limit, make_plan
from lambdiff.errors import InvalidRequest
from lambdiff.infra import batch_resources


@pytest.fixture
def function() -> Function:
    """A batch function of 10,240 MB with a timeout of 60 s."""
    return Function(
        name="f", arn="a", memory_mb=10_240, tmp_mb=512, timeout_s=60, architecture="x86_64", state="Active",
        updating=False, snapstart=False, log_group="", image_uri="",
    )  # fmt: skip


def plan_for(function: Function, rows: int = 10_000, **changes: Any) -> Plan:
    """Return a plan with some usual values."""
    values: dict[str, Any] = {
        "present": 0, "concurrency": 900, "seconds": 10.0, "source": "given", "bytes_per_image": 5e5,
        "region": "us-east-1", **changes,
    }  # fmt: skip
    return make_plan(rows, function=function, **values)


def test_the_estimate_of_ten_thousand_images(function: Function) -> None:
    """At 10 s an image and 900 at once: about two minutes and 17 dollars, of which the state machine is 50 cents."""
    plan = plan_for(function)
    assert plan.minutes == pytest.approx(1.93, abs=0.01)
    assert plan.generation == pytest.approx(16.67, abs=0.01)
    assert plan.orchestration == pytest.approx(0.50)
    assert plan.storage_month == pytest.approx(0.115)
    assert plan.dollars == pytest.approx(plan.generation + plan.orchestration + plan.requests)
    assert "10,000 images, 10.0 s each (given), about 1.9 minutes with 900 at once: about $17" in plan.summary


def test_what_is_there_is_not_paid_for(function: Function) -> None:
    """Only missing images are in the price, and the summary says how many are there."""
    plan = plan_for(function, present=9_000)
    assert (plan.images, plan.left_out) == (1_000, 0)
    assert plan.generation == pytest.approx(1.667, abs=0.001)
    assert "1,000 images (9,000 of 10,000 are there)" in plan.summary


@pytest.mark.parametrize("limit", [0.1, 1.0, 20.0, 250.0, 100_000.0])
def test_a_limit_holds_in_the_worst_case(function: Function, limit: float) -> None:
    """As many items as fit are kept: one more would not fit."""
    plan = plan_for(function, max_cost=limit)
    assert plan.most <= limit
    assert plan.most == pytest.approx(fixed_cost(plan.images) + plan.images * item_limit(function))
    if plan.left_out:
        assert fixed_cost(plan.images + 1) + (plan.images + 1) * item_limit(function) > limit
        assert f"{plan.left_out:,} more do not fit into the limit" in plan.summary
    assert plan.images + plan.left_out == 10_000


def test_the_worst_case_counts_every_attempt_that_may_be_billed(function: Function) -> None:
    """Each attempt that the state machine makes after a billed call runs into the timeout, after a start."""
    (image,) = batch_resources.definition()["States"]["Images"]["ItemProcessor"]["States"].values()
    billed = sum(
        each["MaxAttempts"] for each in image["Retry"] if "Lambda.TooManyRequestsException" not in each["ErrorEquals"]
    )
    assert 1 + billed == ATTEMPTS
    assert item_limit(function) > ATTEMPTS * pricing.invocation(10_240, 60 + INIT_S)
    states = 2 + sum(each["MaxAttempts"] for each in image["Retry"])
    assert item_limit(function) > ATTEMPTS * pricing.invocation(10_240, 70) + states * pricing.STATE_TRANSITION


def test_a_limit_below_one_image_is_refused(function: Function) -> None:
    """The message says what one image can cost, and what decides that."""
    with pytest.raises(InvalidRequest) as caught:
        plan_for(function, max_cost=0.01)
    assert "2 attempts of 60 s each" in caught.value.message
    assert affordable(100, 0.01, function) == 0
    assert plan_for(function, rows=5, present=5, max_cost=0.01).images == 0


def test_a_shorter_timeout_lets_more_fit(function: Function) -> None:
    """The timeout of the function decides what a limit buys."""
    longer = dataclasses.replace(function, timeout_s=600)
    assert affordable(10_000, 20.0, function) > 5 * affordable(10_000, 20.0, longer)
