"""Claims (handler/claims.py), on a store in memory with the conditional writes of S3."""

from __future__ import annotations

import threading

import pytest
from obstore.store import MemoryStore

from lambdiff.handler.claims import SKEW_S, Claim, ImageClaimed, acquire, release

KEY = "ab" * 32


def test_a_claim_is_exclusive_until_it_expires() -> None:
    """A second execution is refused with the seconds that are left, and takes the claim over afterwards."""
    store = MemoryStore()
    assert not acquire(store, KEY, "one", 60, clock=lambda: 1000.0).taken_over
    with pytest.raises(ImageClaimed) as caught:
        acquire(store, KEY, "two", 60, clock=lambda: 1020.0)
    assert caught.value.seconds == 40 + SKEW_S
    assert acquire(store, KEY, "two", 60, clock=lambda: 1000.0 + 60 + SKEW_S).taken_over


def test_a_released_claim_can_be_acquired_at_once() -> None:
    """What failed need not wait until the claim would have expired."""
    store = MemoryStore()
    release(store, acquire(store, KEY, "one", 600))
    assert acquire(store, KEY, "two", 600).owner == "two"


def test_another_executions_claim_is_not_released() -> None:
    """An execution that was taken over cannot give away the new owner's claim."""
    store = MemoryStore()
    old = acquire(store, KEY, "one", 60, clock=lambda: 0.0)
    acquire(store, KEY, "two", 60, clock=lambda: 1000.0)
    release(store, old)
    with pytest.raises(ImageClaimed):
        acquire(store, KEY, "three", 60, clock=lambda: 1001.0)
    release(MemoryStore(), old)  # the lifecycle may have deleted it


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"owner":1}'])
def test_a_damaged_claim_has_expired(content: bytes) -> None:
    """Otherwise, nobody could ever generate the image."""
    store = MemoryStore()
    store.put(f"claims/{KEY}", content)
    assert acquire(store, KEY, "one", 60).taken_over


@pytest.mark.parametrize("expired", [False, True], ids=["new", "expired"])
def test_of_many_executions_one_gets_the_claim(expired: bool) -> None:
    """Whether the claim is new or expired, and whatever the interleaving."""
    for _ in range(20):
        store, got, start = MemoryStore(), [], threading.Barrier(8)
        if expired:
            acquire(store, KEY, "killed", 1, clock=lambda: 0.0)

        def attempt(number: int, store=store, got=got, start=start) -> None:
            start.wait()
            try:
                got.append(acquire(store, KEY, str(number), 60))
            except ImageClaimed:
                got.append(None)

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 8
        assert sum(isinstance(each, Claim) for each in got) == 1
