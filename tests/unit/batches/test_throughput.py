"""The model of a run's duration (batches/throughput.py), and the table that it gives in the documentation."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from lambdiff.batches.cloud_plan import ITEMS_PER_FILE, item_limit, make_plan
from lambdiff.batches.throughput import RAMP_PER_S, run_seconds, steady_rate
from support.map_cloud import batch_function

PAGE = (Path(__file__).parents[3] / "docs" / "scale-out.md").read_text(encoding="utf-8")
COLUMNS = ((10, "eu-central-1"), (900, "eu-central-1"), (9_900, "eu-central-1"), (9_900, "us-east-1"))


def duration(minutes: float) -> str:
    """Write a duration as the table does."""
    for limit, unit, name in ((2, 1 / 60, "s"), (120, 1, "min"), (2_880, 60, "h")):
        if minutes < limit:
            return f"{minutes / unit:,.0f} {name}"
    return f"{minutes / 1_440:,.0f} days"


def dollars(amount: float) -> str:
    """Write an amount as the table does."""
    return f"${amount:,.2f}" if amount < 1_000 else f"${amount:,.0f}"


@pytest.mark.parametrize("images", [10**exponent for exponent in range(2, 8)])
def test_the_documented_table_is_the_models(images: int) -> None:
    """Each row of the page has the durations and prices that the plan of such a run has."""
    plans = [
        make_plan(
            images, 0, batch_function(), concurrency=concurrency, seconds=10, source="given", bytes_per_image=5e5,
            region=region,
        )
        for concurrency, region in COLUMNS
    ]  # fmt: skip
    plan = plans[0]
    prices = [dollars(each) for each in (plan.generation, plan.orchestration, plan.requests, plan.storage_month)]
    cells = [f"{images:,}", *(duration(each.minutes) for each in plans), *prices]
    assert f"| {' | '.join([*cells, str(math.ceil(images / ITEMS_PER_FILE))])} |" in PAGE


def test_the_documented_worst_cases_are_the_plans() -> None:
    """What an item can cost at two timeouts."""
    short, long = (item_limit(batch_function(timeout_s=seconds)) for seconds in (60, 300))
    assert f"an item can cost ${short:.3f} at a timeout of 60 seconds and ${long:.2f} at\n300" in PAGE


def test_a_run_never_takes_less_than_an_image() -> None:
    """Few images take the time of one and the ramp; none take no time."""
    assert run_seconds(0, 10, 900) == 0
    assert run_seconds(1, 10, 900) == pytest.approx(10, abs=1)
    assert run_seconds(100, 10, 900) == pytest.approx(10 + 100 / RAMP_PER_S)


@pytest.mark.parametrize("concurrency", [1, 10, 900, 9_900])
def test_more_images_take_longer_and_more_concurrency_is_not_slower(concurrency: int) -> None:
    """The duration grows with the images, without a jump where the ramp ends, and shrinks with concurrency."""
    times = [run_seconds(images, 10, concurrency, transitions=5_000) for images in range(1, 200_000, 997)]
    assert times == sorted(times)
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(steps) <= 2 * 997 / min(RAMP_PER_S, steady_rate(10, concurrency))
    assert run_seconds(50_000, 10, concurrency) >= run_seconds(50_000, 10, concurrency * 2)
