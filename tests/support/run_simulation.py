"""A discrete simulation of runs in AWS, in steps of a second: Lambda's ramp and throttling, failures, claims, resuming.

The rules are those of `infra/batch_resources.definition` and `handler/claims`, applied to arrays, so that a million
items take seconds. `tests/unit/batches/test_simulation.py` also runs the function's real code, with fewer items.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lambdiff.aws.map_runs import RETRIES_AFTER_THROTTLING
from lambdiff.batches.throughput import RAMP_PER_S, TRANSITIONS_PER_ITEM
from lambdiff.handler.claims import SKEW_S


@dataclass
class World:
    """What happens to calls, and the state of the bucket.

    Attributes:
        items: how many images are wanted.
        limit: the calls that may run at once.
        seconds: the mean duration of an image; each takes 80% to 120% of it.
        timeout_s: of the function.
        killed: the share of calls that die while they generate, which nobody reports.
        repeated: the share of calls for which Lambda reports an error of its own although they go on, so that the state
            machine calls again.
        stolen: the share of the limit that other functions take, in every other minute.
        transitions: of states, in a second.
        claims: whether the function claims an image before it generates it.
    """

    items: int
    limit: int = 1000
    seconds: float = 10.0
    timeout_s: float = 60.0
    killed: float = 0.0
    repeated: float = 0.0
    stolen: float = 0.0
    transitions: float = 5_000.0
    claims: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.done = np.zeros(self.items, bool)
        self.live = np.zeros(self.items, bool)
        self.expires = np.zeros(self.items)
        self.paid = np.zeros(self.items, np.int32)
        self.kills = 0
        self.throttled = 0
        self.clock = 0.0


@dataclass
class _Calls:
    """Calls that are generating: items, when they end, and whether they die."""

    item: Any = field(default_factory=lambda: np.empty(0, np.int64))
    end: Any = field(default_factory=lambda: np.empty(0))
    dies: Any = field(default_factory=lambda: np.empty(0, bool))


def run(world: World, concurrency: int, *, cancel_after: float = float("inf")) -> float:
    """Run all items that are missing; return how long it took, in seconds.

    Args:
        world: what happens.
        concurrency: child executions at once.
        cancel_after: seconds after which the run is stopped; calls that have begun go on.
    """
    started = world.clock
    pending = np.flatnonzero(~world.done)
    position, running = 0, _Calls()
    waiting, wake, attempt = np.empty(0, np.int64), np.empty(0), np.empty(0, np.int32)
    while True:
        cancelled = world.clock - started >= cancel_after
        if cancelled:
            position, waiting, wake, attempt = len(pending), waiting[:0], wake[:0], attempt[:0]
        running = _finish(world, running)
        if position == len(pending) and not len(waiting) and not len(running.item):
            return world.clock - started
        # 1. Children that wake up, and new ones, as far as the state machine's concurrency and rate allow.
        awake = wake <= world.clock
        again, tried = waiting[awake], attempt[awake]
        waiting, wake, attempt = waiting[~awake], wake[~awake], attempt[~awake]
        free = concurrency - len(running.item) - len(waiting) - len(again)
        fresh = pending[position : position + max(0, min(free, int(world.transitions / TRANSITIONS_PER_ITEM)))]
        position += len(fresh)
        called = np.concatenate([again, fresh])
        tried = np.concatenate([tried, np.zeros(len(fresh), np.int32)])
        # 2. Lambda starts as many as its ramp and its limit allow, and throttles the rest.
        room = max(0, _room(world, started) - len(running.item))
        begun, refused, tried = called[:room], called[room:], tried[room:] + 1
        world.throttled += len(refused)
        kept = tried <= RETRIES_AFTER_THROTTLING
        refused, tried = refused[kept], tried[kept]
        delay = world.random.random(len(refused)) * np.minimum(60, 2.0 ** np.minimum(tried, 6))
        waiting = np.concatenate([waiting, refused])
        wake, attempt = np.concatenate([wake, world.clock + delay]), np.concatenate([attempt, tried])
        running = _begin(world, running, begun)
        world.clock += 1


def _room(world: World, started: float) -> int:
    """The calls that Lambda lets run: the ramp, and what other functions leave."""
    ramp = RAMP_PER_S * (world.clock - started + 1)
    stolen = world.stolen if int(world.clock / 60) % 2 else 0.0
    return int(min(ramp, world.limit * (1 - stolen)))


def _begin(world: World, running: _Calls, items: Any) -> _Calls:
    """The function's part: look, claim, generate."""
    items = items[~world.done[items]]
    items = items[world.expires[items] <= world.clock]  # of the others, the claim is another call's
    assert not world.live[items].any(), "two calls generate the same image"
    assert len(np.unique(items)) == len(items)
    world.live[items] = True
    world.expires[items] = world.clock + world.timeout_s + SKEW_S
    world.paid[items] += 1
    took = world.seconds * (0.8 + 0.4 * world.random.random(len(items)))
    assert (took < world.timeout_s).all()
    dies = world.random.random(len(items)) < world.killed
    # A call of which Lambda reports an error goes on; the call that repeats it finds the claim and ends at once.
    repeated = items[world.random.random(len(items)) < world.repeated]
    if not world.claims:
        items, took, dies = (
            np.concatenate([items, repeated]),
            np.concatenate([took, np.full(len(repeated), world.seconds)]),
            np.concatenate([dies, np.zeros(len(repeated), bool)]),
        )
    return _Calls(
        np.concatenate([running.item, items]),
        np.concatenate([running.end, world.clock + took]),
        np.concatenate([running.dies, dies]),
    )


def _finish(world: World, running: _Calls) -> _Calls:
    """Calls that end leave an image, or a claim that has to expire."""
    over = running.end <= world.clock
    items, dies = running.item[over], running.dies[over]
    world.live[items] = False
    assert not world.done[items].any(), "an image was paid for twice"
    world.done[items[~dies]] = True
    world.kills += int(dies.sum())
    return _Calls(running.item[~over], running.end[~over], running.dies[~over])
