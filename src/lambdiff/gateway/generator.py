"""Generate images for requests that arrive on an event loop, within the gateway's limits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.engine.cancellation import cancelled_if
from lambdiff.errors import LambdiffError
from lambdiff.gateway.errors import GatewayError
from lambdiff.gateway.settings import Settings
from lambdiff.protocol.contract import GenerateRequest, Health, OnStep

if TYPE_CHECKING:
    from PIL.Image import Image

_HOUR_S: Final = 3_600.0
_POLL_S: Final = 0.25
"""How often the gateway looks whether a caller is still there."""

IsGone = Callable[[], Awaitable[bool]]
"""Whether the caller has closed the connection."""


class Generator:
    """Generates images on threads, so that the event loop stays free.

    Args:
        client: generates them.
        settings: how many at once, and how many in an hour.
        clock: seconds, monotonic.

    Attributes:
        budget: how many images may still be generated.
    """

    def __init__(self, client: Client, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._limiter = anyio.CapacityLimiter(settings.workers)
        self.budget = Budget(settings.max_images_per_hour, clock)
        self._health: Health | None = None

    @property
    def can_preview(self) -> bool:
        """Whether `preview` shows images before they are finished: on this machine, with a fast decoder."""
        return bool(getattr(self._client.transport, "can_preview", False))

    def preview(self) -> Image | None:
        """Return the image so far, if it is called from `on_step`."""
        return previewed(self._client)

    async def health(self) -> Health:
        """Return the endpoint's health report, which is asked for once.

        Raises:
            LambdiffError: the endpoint cannot be asked.
        """
        if self._health is None:
            self._health = await anyio.to_thread.run_sync(self._client.health, limiter=self._limiter)
        return self._health

    async def generate(
        self, requests: Sequence[GenerateRequest], is_gone: IsGone, on_step: OnStep | None = None
    ) -> list[GeneratedImage | LambdiffError]:
        """Generate images side by side, and return each image, or why there is none.

        If the caller goes away, what this machine generates is cancelled.

        Args:
            requests: validated.
            is_gone: asked now and then.
            on_step: called on other threads, if this machine generates.

        Raises:
            GatewayError: the limit of images in an hour is reached.
        """
        self.budget.take(len(requests))
        stopped = threading.Event()
        results: dict[int, GeneratedImage | LambdiffError] = {}

        def step(done: int, total: int) -> bool:
            return stopped.is_set() or bool(on_step and on_step(done, total))

        def make(request: GenerateRequest) -> GeneratedImage | LambdiffError:
            try:
                with cancelled_if(stopped.is_set):
                    return self._client.generate_request(request, step)
            except LambdiffError as error:
                return error

        async def run(index: int, request: GenerateRequest) -> None:
            results[index] = await anyio.to_thread.run_sync(
                make, request, limiter=self._limiter, abandon_on_cancel=True
            )

        async def watch() -> None:
            while not await is_gone():
                await anyio.sleep(_POLL_S)
            stopped.set()

        try:
            async with anyio.create_task_group() as watching:
                watching.start_soon(watch)
                async with anyio.create_task_group() as running:
                    for index, request in enumerate(requests):
                        running.start_soon(run, index, request)
                watching.cancel_scope.cancel()
        finally:
            stopped.set()
        return [results[index] for index in range(len(requests))]


def previewed(client: Client) -> Image | None:
    """Return the image that a client on this machine is generating, as far as it is; to be called from `on_step`."""
    from PIL import Image

    pixels = client.transport.preview() if getattr(client.transport, "can_preview", False) else None  # type: ignore[attr-defined]
    return None if pixels is None else Image.fromarray(pixels)


class Budget:
    """How many images may be generated in any hour.

    Args:
        most: that many; None for no limit.
        clock: seconds, monotonic.
    """

    def __init__(self, most: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._taken: deque[float] = deque()

    def take(self, count: int) -> None:
        """Count images that are about to be generated.

        Raises:
            GatewayError: there would be too many.
        """
        if self._most is None:
            return
        now = self._clock()
        while self._taken and self._taken[0] <= now - _HOUR_S:
            self._taken.popleft()
        if len(self._taken) + count > self._most:
            wait = int(self._taken[0] + _HOUR_S - now) + 1 if self._taken else None
            raise GatewayError(
                429,
                f"This gateway generates at most {self._most} images an hour.",
                code="rate_limit_exceeded",
                retry_after=wait,
            )
        self._taken.extend([now] * count)
