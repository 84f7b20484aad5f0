"""Waiting until AWS accepts a new access key (infra/smoke_test.py)."""

from __future__ import annotations

import io

import pytest

from lambdiff.auth.credentials import KEY_SPREAD_S
from lambdiff.errors import AccessDenied, EndpointFailed
from lambdiff.infra import smoke_test
from lambdiff.stages import Stages


def test_a_health_check_is_retried_while_the_key_is_denied() -> None:
    """A denied health check is retried every three seconds until AWS accepts the key."""
    waited: list[float] = []

    def health() -> str:
        if len(waited) < 2:
            raise AccessDenied("The security token is invalid.", status=403)
        return "healthy"

    assert smoke_test.retry_while_denied(health, Stages(io.StringIO()), sleep=waited.append) == "healthy"
    assert waited == [3, 3]


def test_a_key_that_is_never_accepted_is_an_error() -> None:
    """If the key is still denied after a minute and a half, the error is raised."""
    waited: list[float] = []

    def health() -> None:
        raise AccessDenied("The security token is invalid.", status=403)

    with pytest.raises(AccessDenied):
        smoke_test.retry_while_denied(health, Stages(io.StringIO()), sleep=waited.append)
    assert sum(waited) == pytest.approx(KEY_SPREAD_S, abs=3)


def test_other_errors_are_not_retried() -> None:
    """An error other than `AccessDenied` is raised immediately."""
    calls: list[int] = []

    def health() -> None:
        calls.append(1)
        raise EndpointFailed("broken")

    with pytest.raises(EndpointFailed):
        smoke_test.retry_while_denied(health, Stages(io.StringIO()), sleep=lambda _: None)
    assert calls == [1]
