"""Many requests in parallel: the threads behind `Client.generate_many`, and its results."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from lambdiff.client.image import GeneratedImage
from lambdiff.client.parameters import GenerationParameters
from lambdiff.errors import LambdiffError
from lambdiff.protocol.contract import OnStep


@dataclass(frozen=True)
class Failure:
    """A request of `generate_many` that failed.

    Attributes:
        index: its position among the prompts, from 0.
        request: its parameters, which can be passed to `generate_many` again.
        error: why it failed.
    """

    index: int
    request: GenerationParameters = field(repr=False)
    error: LambdiffError


@dataclass(frozen=True)
class Batch:
    """The results of `generate_many` in the order of the prompts, each an image or a `Failure`.

    Example:
        >>> batch = client.generate_many(["a cat", "a dog"])
        >>> for failure in batch.failures:
        ...     print(failure.index, failure.error)
    """

    results: list[GeneratedImage | Failure]

    @property
    def images(self) -> list[GeneratedImage]:
        """The generated images, in order."""
        return [result for result in self.results if isinstance(result, GeneratedImage)]

    @property
    def failures(self) -> list[Failure]:
        """The failures, in order."""
        return [result for result in self.results if isinstance(result, Failure)]

    def __iter__(self) -> Iterator[GeneratedImage | Failure]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


OnResult = Callable[[int, GeneratedImage | Failure], object]
"""Called with (index, result) as each request ends."""


def run_batch(
    requests: Sequence[GenerationParameters],
    generate: Callable[[GenerationParameters, OnStep], GeneratedImage],
    *,
    max_workers: int,
    on_result: OnResult | None = None,
) -> Batch:
    """Run `generate` for every request, on up to `max_workers` threads.

    A `LambdiffError` becomes a `Failure`. Any other exception, from `generate` or from `on_result`, cancels the running
    requests, drops the waiting ones, and is raised here.

    Args:
        requests: what to generate.
        generate: called on worker threads with a request and an `on_step` callback that cancels it.
        max_workers: how many threads; at least one is used.
        on_result: called in the calling thread.
    """
    waiting: queue.SimpleQueue[tuple[int, GenerationParameters]] = queue.SimpleQueue()
    finished: queue.SimpleQueue[tuple[int, GeneratedImage | Failure | BaseException]] = queue.SimpleQueue()
    stopped = threading.Event()
    for job in enumerate(requests):
        waiting.put(job)

    def work() -> None:
        while not stopped.is_set():
            try:
                index, request = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                finished.put((index, generate(request, lambda _done, _total: stopped.is_set())))
            except LambdiffError as error:
                finished.put((index, Failure(index, request, error)))
            except BaseException as error:  # raised again in the caller's thread
                finished.put((index, error))

    # Daemon threads instead of an executor: Ctrl-C must end the program even if a request would run for minutes.
    for _ in range(min(max(1, max_workers), len(requests))):
        threading.Thread(target=work, daemon=True).start()
    results: dict[int, GeneratedImage | Failure] = {}
    try:
        while len(results) < len(requests):
            index, result = finished.get()
            if isinstance(result, BaseException):
                raise result
            results[index] = result
            if on_result:
                on_result(index, result)
    finally:
        stopped.set()
    return Batch([results[index] for index in range(len(requests))])
