"""`lambdiff.generate`: one image, from a client that is reused by later calls."""

# Annotations are evaluated here, so that `help()` shows the values of a Literal instead of the name of its alias.
import os
import threading
from typing import Any, Final

from lambdiff import config
from lambdiff.client import notebook
from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.protocol.contract import ImageFormat, OnStep, SchedulerName

_clients: dict[tuple[object, ...], Client] = {}
_lock = threading.Lock()

_ENVIRONMENT: Final = (
    "LAMBDIFF_HOME", "LAMBDIFF_URL", "LAMBDIFF_DEPLOYMENT", "LAMBDIFF_REGION", "LAMBDIFF_MODEL_DIR",
    "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID",
)  # fmt: skip
"""The environment variables that determine which endpoint a client calls and how it signs."""


def generate(
    prompt: str,
    *,
    negative_prompt: str | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    width: int | None = None,
    height: int | None = None,
    seed: int | None = None,
    scheduler: SchedulerName | None = None,
    image_format: ImageFormat = "png",
    on_step: OnStep | None = None,
    url: str | None = None,
    region: str | None = None,
    deployment: str | None = None,
    profile: str | None = None,
    local: bool = False,
) -> GeneratedImage:
    """Generate one image and wait for it. Later calls reuse the client; a notebook shows a progress bar.

    For every parameter that is None the endpoint uses its model's default. Without `url`, `deployment` or `local` the
    endpoint is chosen as `Client` chooses it; if nothing is deployed, this machine generates with the built-in model.

    Args:
        prompt: what to show, 1 to 2,000 characters.
        negative_prompt: what to keep out of the image, up to 2,000 characters.
        num_inference_steps: denoising steps, 1 to 100.
        guidance_scale: 0 to 30; at 1 or less there is no classifier-free guidance, which halves the work.
        width, height: pixels, 64 to 1,024, multiples of 8.
        seed: 0 to 2**32 - 1; the same seed and parameters give the same image. By default a random one.
        scheduler: the sampling method.
        image_format: the encoding of the reply.
        on_step: called with (steps done, steps in total) after each step, if this machine generates; return True
            to cancel.
        url: a Function URL.
        region: the function's region; by default it is read from the URL or the deployment.
        deployment: the name of a saved deployment.
        profile: the AWS profile to read credentials with.
        local: generate on this machine.

    Raises:
        InvalidRequest: a parameter is out of range; nothing was sent.
        ConfigurationError: no such deployment, no region, no credentials, or a missing extra.
        EndpointRefused: the endpoint refused the request.
        EndpointFailed: it failed, did not answer in time, or sent no complete image.
        Cancelled: `on_step` returned True.

    Example:
        >>> lambdiff.generate("a cat in a top hat", seed=7).save("cat.png")
        PosixPath('cat.png')
    """
    client = _client(url=url, region=region, deployment=deployment, profile=profile, local=local)
    with notebook.progress_bar() as show_step:
        return client.generate(
            prompt, negative_prompt=negative_prompt, num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale, width=width, height=height, seed=seed, scheduler=scheduler,
            image_format=image_format, on_step=on_step or show_step,
        )  # fmt: skip


def _client(**arguments: Any) -> Client:
    """The cached client for these arguments, or a new one if the environment or the saved deployments have changed."""
    try:
        changed_at = config.path().stat().st_mtime_ns
    except OSError:
        changed_at = 0
    key = (*arguments.items(), *map(os.environ.get, _ENVIRONMENT), changed_at)
    with _lock:
        if key not in _clients:
            _clients[key] = Client(**arguments)
        return _clients[key]
