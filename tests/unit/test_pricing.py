"""Lambda's prices and free tier (pricing.py)."""

from __future__ import annotations

import pytest

from lambdiff import pricing


def test_the_price_of_an_invocation() -> None:
    """An invocation costs its GB-seconds and one request; extra /tmp costs more, and Arm costs a fifth less."""
    assert pricing.invocation(10_240, 10) == pytest.approx(0.00166667 + 0.0000002, rel=1e-6)
    assert pricing.invocation(10_240, 10, architecture="arm64") == pytest.approx(0.00133334 + 0.0000002, rel=1e-6)
    assert pricing.invocation(10_240, 10, tmp_mb=1536) - pricing.invocation(10_240, 10) == pytest.approx(3.09e-7)


@pytest.mark.parametrize(("memory", "seconds", "images"), [(10_240, 10, 4_000), (1024, 1, 400_000), (128, 0.1, 10**6)])
def test_the_free_tier_ends_with_seconds_or_with_requests(memory: int, seconds: float, images: int) -> None:
    """The free tier covers 400,000 GB-seconds or a million requests, whichever is reached first."""
    assert pricing.free_images(memory, seconds) == images
