"""The smoke test at the end of a deployment: check the endpoint's health and generate one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from lambdiff.auth.credentials import KEY_SPREAD_S
from lambdiff.config import Deployment
from lambdiff.errors import AccessDenied, CredentialsError, DeployError, LambdiffError
from lambdiff.infra.settings import StackSettings
from lambdiff.stages import Stages

T = TypeVar("T")

PROMPT: Final = "a cat in a top hat"


def run(deployment: Deployment, settings: StackSettings, stages: Stages, notes: list[str]) -> float | None:
    """Check the health of a new endpoint and generate an image with it.

    Args:
        deployment: the saved deployment.
        settings: what was deployed.
        stages: shows the progress.
        notes: receives a note if the caller may not assume the invoker's role, so that nothing could be tested.

    Returns:
        The seconds that the caller waited for the image, cold start included; None if nothing could be tested.

    Raises:
        LambdiffError: the endpoint does not work.
    """
    from lambdiff.client.client import Client
    from lambdiff.client.pictures import required_pictures

    stages.stage("Checking the endpoint's health")
    try:
        with Client(deployment=deployment.name, profile=deployment.profile) as client:
            health = retry_while_denied(client.health, stages)
            stages.stage(f"Generating {PROMPT}")
            image = client.generate(PROMPT, seed=1, **required_pictures(health.limits))
    except CredentialsError as error:
        if settings.auth != "role":
            raise
        notes.append(f"Not tested: {error.message} {error.fix}")
        return None
    except LambdiffError as error:
        stages.failed()
        error.fix = f"{error.fix} The stack exists: `lambdiff logs` shows the function's log.".strip()
        raise
    served = f"{health.model.name}@{health.model.revision}"
    if served != settings.model:
        raise DeployError(
            f"The endpoint serves {served}, not {settings.model}.",
            fix="Deploy again with `force=True`; if that does not help, report a bug.",
        )
    return image.timings["total"]


def retry_while_denied(call: Callable[[], T], stages: Stages, sleep: Callable[[float], None] | None = None) -> T:
    """Repeat a health check, which costs next to nothing, until AWS accepts the new access key.

    Args:
        call: the health check.
        stages: shows the progress.
        sleep: waits for the given seconds.

    Raises:
        AccessDenied: AWS does not accept the key after `KEY_SPREAD_S` seconds.
    """
    import tenacity

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(AccessDenied),
        wait=tenacity.wait_fixed(3),
        stop=tenacity.stop_after_attempt(int(KEY_SPREAD_S / 3)),
        before_sleep=lambda _: stages.detail("AWS does not accept the new access key yet"),
        sleep=sleep or tenacity.nap.sleep,
        reraise=True,
    )
    return retrying(call)
