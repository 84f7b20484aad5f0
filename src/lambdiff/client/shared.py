"""`lambdiff.generate`: one image, from a client that is reused by later calls."""

# Annotations are evaluated here, so that `help()` shows the values of a Literal instead of the name of its alias.
import os
import threading
from collections import OrderedDict
from typing import Any, Final

from lambdiff import config, forks
from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.client.pictures import PictureSource
from lambdiff.protocol.contract import ImageFormat, OnStep, PromptSyntax, SchedulerName, SigmaSchedule

MAX_CLIENTS: Final = 8
"""How many clients are kept open; one more closes the one that was not used for longest."""


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
    sigma_schedule: SigmaSchedule | None = None,
    prompt_syntax: PromptSyntax | None = None,
    image: PictureSource | None = None,
    strength: float | None = None,
    mask: PictureSource | None = None,
    image_format: ImageFormat = "png",
    on_step: OnStep | None = None,
    url: str | None = None,
    region: str | None = None,
    deployment: str | None = None,
    profile: str | None = None,
    local: bool = False,
) -> GeneratedImage:
    """Generate one image and wait for it. Later calls reuse the client. A notebook shows progress and warnings.

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
        sigma_schedule: how the noise levels are spaced. Samplers without noise levels of their own, such as `ddim`,
            take `normal` only.
        prompt_syntax: how the prompts are read: `plain`, or `a1111` with `(weighted:1.2)` words and `BREAK`; see
            "Prompts" in the documentation.
        image: a start image that is changed towards the prompt: a path, the bytes of a file, a PIL image, a numpy
            array or a `GeneratedImage`. Without a size, the image gets its shape.
        strength: 0 to 1, with `image` only: how much it may change, 0.75 by default. As many of the steps run.
        mask: which part of `image` is redrawn, in white; the rest stays as it is. Given like `image`.
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
    client = _clients.get(url=url, region=region, deployment=deployment, profile=profile, local=local)
    return client.generate(
        prompt, negative_prompt=negative_prompt, num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale, width=width, height=height, seed=seed, scheduler=scheduler,
        sigma_schedule=sigma_schedule, prompt_syntax=prompt_syntax, image=image, strength=strength, mask=mask,
        image_format=image_format, on_step=on_step,
    )  # fmt: skip


class _SharedClients:
    """One client for each set of arguments. All are closed when something changes that may lead to another endpoint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: OrderedDict[tuple[object, ...], Client] = OrderedDict()
        self._settings: tuple[object, ...] = ()
        forks.renew_in_children(self)

    def get(self, **arguments: Any) -> Client:
        with forks.postponed(), self._lock:
            settings = _settings()
            if settings != self._settings:
                self._close_all_but(0)
                self._settings = settings
            key = tuple(arguments.items())
            if key not in self._clients:
                self._clients[key] = Client(**arguments)
                self._close_all_but(MAX_CLIENTS)
            self._clients.move_to_end(key)
            return self._clients[key]

    def renew_after_fork(self) -> None:
        self._lock = threading.Lock()

    def _close_all_but(self, number: int) -> None:
        # A request that another thread has started with a closed client is still completed.
        while len(self._clients) > number:
            _, client = self._clients.popitem(last=False)
            client.close()


def _settings() -> tuple[object, ...]:
    """Everything outside the arguments that determines which endpoint a client calls and how it signs."""
    try:
        file = config.path().stat()
        saved = (file.st_mtime_ns, file.st_size, file.st_ino)
    except OSError:
        saved = None
    return saved, *sorted(item for item in os.environ.items() if item[0].startswith(("AWS_", "LAMBDIFF_")))


_clients: Final = _SharedClients()
