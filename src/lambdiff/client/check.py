"""Ask an endpoint whether it can be called, before it is saved."""

from __future__ import annotations

from typing import Final

from lambdiff.client import endpoint
from lambdiff.client.client import Client
from lambdiff.config import Deployment
from lambdiff.protocol.contract import Health

_TIMEOUT_S: Final = 60.0
"""Enough for a cold start, which a report of the health does not load the model for."""


def check(deployment: Deployment) -> Health:
    """Return the health report of a deployment that need not be saved.

    Raises:
        LambdiffError: it cannot be called: no connection, no credentials, no permission, or it is not lambdiff's.
    """
    with Client(transport=endpoint.of_deployment(deployment, timeout_s=_TIMEOUT_S).open()) as client:
        return client.health()
