"""Comparing memory sizes of a function (bench/memory_sweep.py)."""

from __future__ import annotations

import pytest

from lambdiff import pricing
from lambdiff.bench.stats import Stats
from lambdiff.client import progress
from lambdiff.errors import Cancelled, EndpointFailed, Throttled
from support.aws_resources import OUTPUTS
from support.sweep_cloud import BILLED, CAP, COLD, NETWORK, Cloud, MakeSweep, interrupt, quiet, yes


def test_the_cheapest_and_the_fastest_setting_are_reported(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """Each setting is priced by its billed duration and compared with the current one, which is restored."""
    sweep = make_sweep(10_240, 2048)
    sweep.run(quiet(), yes)
    assert cloud.updates == [2048, 10_240, 3008]
    assert cloud.memory == 3008
    assert cloud.images == [3008] * 3 + [2048] * 3 + [10_240] * 3
    report = sweep.report()
    assert (report.current_memory_mb, report.restored) == (3008, True)
    assert (report.cheapest_memory_mb, report.fastest_memory_mb) == (2048, 10_240)
    assert [each.memory_mb for each in report.settings] == [2048, 3008, 10_240]
    assert [each.current for each in report.settings] == [False, True, False]
    for each in report.settings:
        assert (each.billed_seconds, each.billed_source, each.images) == (BILLED[each.memory_mb], "log", 2)
        assert each.dollars_per_image == pricing.invocation(each.memory_mb, BILLED[each.memory_mb])
        waited = BILLED[each.memory_mb] + NETWORK
        assert each.cold_start_seconds == pytest.approx(waited + COLD)
        assert each.latency_seconds == Stats(median=waited, min=waited, max=waited)
        assert each.error is None
    assert [each.relative_latency for each in report.settings] == [1.238, 1.0, 0.524]  # 2.6, 2.1 and 1.1 s
    assert [each.relative_cost for each in report.settings] == [
        0.851,
        1.0,
        1.701,
    ]  # 5, 5.875 and 10 GB-s, and each a request
    assert report.notes == []


def test_a_setting_above_the_accounts_limit_is_reported(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """A memory size that AWS refuses is reported with AWS's message, and the other settings are measured."""
    cloud.refuse = lambda size, _: ("ValidationException", 400) if size > 3008 else None
    sweep = make_sweep(2048, 10_240)
    sweep.run(quiet(), yes)
    small, current, large = sweep.report().settings
    assert large.error == f"AWS says: ValidationException: {CAP}"
    assert large.fix == "Leave out this memory size, or ask AWS Support for more memory."
    assert [(size, error.exit_code) for size, error in sweep.errors.items()] == [(10_240, 7)]
    assert (large.latency_seconds, large.dollars_per_image, large.relative_latency) == (None, None, None)
    assert (small.images, current.images) == (2, 2)
    assert sweep.report().cheapest_memory_mb == 2048
    assert cloud.memory == 3008


def test_a_setting_with_too_little_memory_is_reported(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """A function that crashes at one setting is measured at the others."""

    def crash(size: int, _: int) -> None:
        if size == 2048:
            raise EndpointFailed("The function ended before it answered.")

    cloud.before_image = crash
    sweep = make_sweep(2048, 10_240)
    sweep.run(quiet(), yes)
    small, _, large = sweep.report().settings
    assert (small.error, small.images) == ("The function ended before it answered.", 0)
    assert large.images == 2
    assert cloud.images.count(2048) == 1
    assert [error.exit_code for error in sweep.errors.values()] == [5]
    assert cloud.memory == 3008


def test_nothing_measured_is_an_error(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If all settings fail, the first error is raised and the memory is restored."""

    def crash(size: int, _: int) -> None:
        raise EndpointFailed(f"broken at {size}")

    cloud.before_image = crash
    with pytest.raises(EndpointFailed, match="broken at 3008"):
        make_sweep(2048).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008


def test_an_interruption_restores_the_memory(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """Ctrl-C during a measurement restores the original memory and keeps the figures measured so far."""
    cloud.before_image = interrupt
    sweep = make_sweep(2048, 10_240)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008
    assert cloud.images == [3008] * 3 + [2048] * 2
    report = sweep.report()
    assert report.restored
    assert [(each.memory_mb, each.images) for each in report.settings] == [(2048, 0), (3008, 2)]


def test_a_refusal_of_the_caller_ends_the_sweep(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If the caller is throttled, no other setting is tried, and the memory is restored."""

    def refuse(size: int, _: int) -> None:
        if size == 2048:
            raise Throttled("Every slot is taken.", status=429)

    cloud.before_image = refuse
    with pytest.raises(Throttled):
        make_sweep(2048, 10_240).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008


def test_declining_changes_nothing(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If the caller declines, no image is generated and the memory is not changed."""
    with pytest.raises(Cancelled, match="Nothing was changed"):
        make_sweep(2048).run(quiet(), lambda _: False)
    assert (cloud.updates, cloud.images) == ([], [])


def test_the_question_states_the_cost(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """The question states the cost by the last image's duration, or else the most that the timeout allows."""
    sweep = make_sweep(2048, 10_240)
    most = 3 * sum(pricing.invocation(size, 600) for size in (2048, 3008, 10_240))
    question = sweep.question()
    assert "Generate 9 images" in question
    assert f"at most {pricing.dollars(most)}" in question
    assert "from 3,008 MB to 2,048, 10,240 MB, for all callers?" in question
    progress.remember_seconds(OUTPUTS["LambdaUrl"], 4.0)
    price = pricing.dollars(9 * pricing.invocation(3008, 4.0))
    assert f"about {price}, since the last image took 4.0 s" in sweep.question()


def test_measuring_only_the_current_setting_changes_nothing(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If only the current setting is measured, the question mentions no change, and none is made."""
    sweep = make_sweep(3008)
    most = pricing.dollars(3 * pricing.invocation(3008, 600))
    assert sweep.question() == f"Generate 3 images (at most {most}; how long an image takes is not known yet)?"
    sweep.run(quiet(), yes)
    assert cloud.updates == []
    assert [each.images for each in sweep.report().settings] == [2]
