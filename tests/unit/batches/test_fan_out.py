"""How many requests run at once."""

from __future__ import annotations

import pytest

from lambdiff.batches.fan_out import FanOut


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def test_the_limit_grows_with_each_image_up_to_the_most():
    """Until something is throttled, each image makes room for one more request."""
    fan_out = FanOut(most=6)
    assert fan_out.limit == 4
    for _ in range(5):
        fan_out.succeeded()
    assert fan_out.limit == 6


def test_a_small_most_is_never_exceeded():
    """An endpoint with one slot gets one request."""
    assert FanOut(most=1).limit == 1


def test_a_burst_of_refusals_halves_the_limit_once():
    """Requests that began before the reduction do not reduce it again."""
    clock = Clock()
    fan_out = FanOut(most=64, clock=clock)
    for _ in range(12):
        fan_out.succeeded()
    began = [fan_out.start() for _ in range(16)]
    clock.now = 1.0
    for each in began:
        fan_out.throttled(each)
    assert fan_out.limit == 8
    clock.now = 2.0
    fan_out.throttled(clock.now)
    assert fan_out.limit == 4


def test_after_throttling_it_grows_by_one_a_round():
    """Eight images at a limit of eight make room for about one more."""
    clock = Clock()
    fan_out = FanOut(most=64, clock=clock)
    for _ in range(12):
        fan_out.succeeded()
    fan_out.throttled(fan_out.start())
    for _ in range(9):
        fan_out.succeeded()
    assert fan_out.limit == 9


def test_pauses_grow_until_an_image_succeeds():
    """Nothing starts during a pause, and pauses double up to 20 seconds."""
    clock = Clock()
    fan_out = FanOut(most=4, clock=clock)
    pauses = []
    for _ in range(12):
        pauses.append(fan_out.throttled(clock.now))
        assert not fan_out.is_open
        clock.now += pauses[-1] + 0.001
        assert fan_out.is_open
    assert pauses[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert max(pauses) == pytest.approx(20)
    fan_out.succeeded()
    assert fan_out.throttled(clock.now) == pytest.approx(0.1)


def test_running_requests_take_room():
    """No more than the limit run at once."""
    fan_out = FanOut(most=2)
    fan_out.start()
    assert fan_out.is_open
    fan_out.start()
    assert not fan_out.is_open
    fan_out.end()
    assert fan_out.is_open
