"""The client for asyncio. It has no requests of its own: `Client` signs, sends and retries, on threads.

A thread that waits for a reply costs next to nothing, and one implementation of signing and retries serves both; see
docs/decisions/0025-async-client-on-threads.md.
"""

# Annotations are evaluated here, so that `help()` shows them as they are.
import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NoReturn, Self, TypeVar, Unpack

from msgspec import Meta

from lambdiff.client.batch import Failure
from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.client.parameters import GenerationParameters, SharedParameters, build_request, build_requests
from lambdiff.client.transport import Transport
from lambdiff.engine.cancellation import cancelled_if
from lambdiff.errors import LambdiffError
from lambdiff.protocol.contract import GenerateRequest, Health, OnStep
from lambdiff.protocol.validation import checked

Result = TypeVar("Result")

MAX_CONCURRENCY = 256
"""How many requests run at once, unless the caller says otherwise."""


class AsyncClient:
    """Generates images at one endpoint, from coroutines. The event loop never waits for an image.

    Cancelling a task, for instance by `asyncio.timeout`, lets go of its slot at once. What this machine generates is
    stopped; a request that an endpoint is working on cannot be taken back, so its image may be billed.

    Args:
        url, region, credentials, deployment, profile, local, model_dir, timeout_s, load, transport: as for `Client`.
        max_concurrency: how many requests run at once; others wait.

    Attributes:
        client: the client that does the work.

    Raises:
        ConfigurationError, MissingExtra, ModelError: as for `Client`.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with lambdiff.AsyncClient(local=True) as client:
        ...         images = await asyncio.gather(*(client.generate("a cat", seed=seed) for seed in range(3)))
        ...         return [image.seed for image in images]
        >>> asyncio.run(main())
        [0, 1, 2]
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        region: str | None = None,
        credentials: Any = None,
        deployment: str | None = None,
        profile: str | None = None,
        local: bool = False,
        model_dir: str | Path | None = None,
        timeout_s: float | None = None,
        load: bool = False,
        transport: Transport | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
    ) -> None:
        most = checked("max_concurrency", max_concurrency, Annotated[int, Meta(ge=1)])
        self.client = Client(
            url, region=region, credentials=credentials, deployment=deployment, profile=profile, local=local,
            model_dir=model_dir, timeout_s=timeout_s, load=load, transport=transport,
        )  # fmt: skip
        self._slots = asyncio.Semaphore(most)

    async def generate(
        self, prompt: str, *, on_step: OnStep | None = None, **parameters: Unpack[SharedParameters]
    ) -> GeneratedImage:
        """Generate one image; the parameters, results and errors are those of `Client.generate`.

        Args:
            prompt: what to show, 1 to 2,000 characters.
            on_step: called on another thread after each step, on this machine only; return True to cancel.
            parameters: as for `Client.generate`.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with lambdiff.AsyncClient(local=True) as client:
            ...         async with asyncio.timeout(60):
            ...             return await client.generate("a cat in a top hat", seed=7)
            >>> asyncio.run(main()).seed
            7
        """
        # Encoding a start image takes a while, too.
        return await self._on_thread(
            lambda stop: self._generate(build_request(prompt=prompt, **parameters), on_step, stop)
        )

    async def generate_many(
        self, prompts: Iterable[str | GenerationParameters], *, n: int = 1, **shared: Unpack[SharedParameters]
    ) -> AsyncIterator[tuple[int, GeneratedImage | Failure]]:
        """Generate many images, and yield (index, result) as each is finished.

        All requests are validated before the first is sent. A request that fails becomes a `Failure`. When the loop is
        left early, the others are cancelled.

        Args:
            prompts: as for `Client.generate_many`; indexes are by prompt, then by seed.
            n: images of each prompt, with consecutive seeds.
            shared: parameters for all images.

        Raises:
            InvalidRequest: a request is not valid, and the message has its index; nothing was sent.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with lambdiff.AsyncClient(local=True) as client:
            ...         return sorted([index async for index, _ in client.generate_many(["a cat", "a dog"], seed=7)])
            >>> asyncio.run(main())
            [0, 1]
        """
        requests = await self._on_thread(lambda _: build_requests(prompts, dict(shared), n))

        async def run(index: int, request: GenerationParameters) -> tuple[int, GeneratedImage | Failure]:
            try:
                return index, await self._on_thread(lambda stop: self._generate(build_request(**request), None, stop))
            except LambdiffError as error:
                return index, Failure(index, request, error)

        tasks = [asyncio.ensure_future(run(index, request)) for index, request in enumerate(requests)]
        try:
            for finished in asyncio.as_completed(tasks):
                yield await finished
        finally:
            for task in tasks:
                task.cancel()

    async def health(self) -> Health:
        """Ask the endpoint for its version, model, engine, defaults and limits; see `Client.health`."""
        return await self._on_thread(lambda _: self.client.health())

    async def aclose(self) -> None:
        """Close connections and release the model's weights."""
        await self._on_thread(lambda _: self.client.close())

    def _generate(self, request: GenerateRequest, on_step: OnStep | None, stop: threading.Event) -> GeneratedImage:
        def step(done: int, total: int) -> bool:
            return stop.is_set() or bool(on_step and on_step(done, total))

        with cancelled_if(stop.is_set):
            return self.client.generate_request(request, step)

    async def _on_thread(self, call: Callable[[threading.Event], Result]) -> Result:
        """Run a call on a thread of its own; if the task is cancelled, set the call's event and go on at once.

        Not in an executor, whose threads a cancelled call would occupy until its reply arrives, and which the
        interpreter waits for when it ends.
        """
        async with self._slots:
            loop = asyncio.get_running_loop()
            finished: asyncio.Future[Result] = loop.create_future()
            stop = threading.Event()

            def settle(done: concurrent.futures.Future[Result]) -> None:
                if finished.done():  # cancelled
                    return
                if error := done.exception():
                    finished.set_exception(error)
                else:
                    finished.set_result(done.result())

            def work() -> None:
                done: concurrent.futures.Future[Result] = concurrent.futures.Future()
                try:
                    done.set_result(call(stop))
                except BaseException as error:  # raised again where it is awaited
                    done.set_exception(error)
                with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                    loop.call_soon_threadsafe(settle, done)

            threading.Thread(target=work, name="lambdiff-async", daemon=True).start()
            try:
                return await finished
            finally:
                stop.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> NoReturn:
        raise TypeError("An AsyncClient cannot be pickled or copied. Create one in each process.")

    def __repr__(self) -> str:
        return f"AsyncClient({self.client.endpoint})"
