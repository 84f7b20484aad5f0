"""The smoke test at the end of a deployment: health, and one picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from lambdiff.config import Deployment
from lambdiff.errors import AccessDenied, CredentialsError, DeployError, LambdiffError
from lambdiff.infra.settings import StackSettings
from lambdiff.stages import Stages

PROMPT: Final = "a cat in a top hat"
KEY_PATIENCE: Final = 90.0
"""Seconds that a new access key may take until every part of AWS knows it."""


def smoke(deployment: Deployment, settings: StackSettings, report: Stages, notes: list[str]) -> float | None:
    """Ask a new endpoint for its health and for a picture.

    Args:
        notes: is told why nothing could be tested, where the caller may not assume the role.

    Returns:
        Seconds until the picture was there; None if it was not tried.

    Raises:
        LambdiffError: the endpoint does not work.
    """
    from lambdiff.client.client import Client

    report.stage("Asking the endpoint for its health")
    try:
        with Client(deployment=deployment.name, profile=deployment.profile) as client:
            health = _patiently(client.health, report)
            report.stage(f"Generating {PROMPT}")
            image = client.generate(PROMPT, seed=1)
    except CredentialsError as error:
        if settings.auth != "role":
            raise
        notes.append(f"Not tested: {error.message} {error.fix}")
        return None
    except LambdiffError as error:
        report.failed()
        error.fix = f"{error.fix} The stack is there: `lambdiff logs` shows what the function said.".strip()
        raise
    served = f"{health.model.name}@{health.model.revision}"
    if served != settings.model:
        raise DeployError(
            f"The endpoint serves {served}, not {settings.model}.", fix="Deploy again with --force; else report a bug."
        )
    # What the caller waited: a little more than what is billed, the cold start included.
    return image.timings["total"]


def _patiently(call: Callable[[], Any], report: Stages) -> Any:
    """Repeat a health check, which costs nothing, while a new key is not known everywhere."""
    give_up = time.monotonic() + KEY_PATIENCE
    while True:
        try:
            return call()
        except AccessDenied:
            if time.monotonic() > give_up:
                raise
            report.detail("AWS does not know the new key yet")
            time.sleep(3)
