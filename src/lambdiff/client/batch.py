"""Many requests in parallel: the threads behind `Client.generate_many`, and its results."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, SupportsIndex, overload

from lambdiff.client.image import GeneratedImage
from lambdiff.client.parameters import GenerationParameters
from lambdiff.engine.cancellation import INTERVAL_S, cancelled_if
from lambdiff.errors import LambdiffError
from lambdiff.printable import printable
from lambdiff.protocol.contract import OnStep

_MAX_REASONS: Final = 3
"""The number of failures that `repr` explains."""


@dataclass(frozen=True)
class Failure:
    """A request of `generate_many` that failed.

    Attributes:
        index: its position in the results, from 0.
        request: its parameters, which can be passed to `generate_many` again.
        error: why it failed.
    """

    index: int
    request: GenerationParameters = field(repr=False)
    error: LambdiffError


@dataclass(frozen=True, repr=False)
class Batch(Sequence[GeneratedImage | Failure]):
    """The results of `generate_many` in the order of the prompts, each an image or a `Failure`.

    A batch is a sequence: `batch[0]` is a result and `batch[:8]` is a batch. Notebooks display it as a grid.

    Attributes:
        results: the same as a list.

    Example:
        >>> batch = client.generate_many(["a cat"], n=3, seed=7)
        >>> batch
        <Batch: 3 images>
        >>> batch.images[-1].save("last.png")
        PosixPath('last.png')
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

    @overload
    def __getitem__(self, index: SupportsIndex) -> GeneratedImage | Failure: ...

    @overload
    def __getitem__(self, index: slice) -> Batch: ...

    def __getitem__(self, index: SupportsIndex | slice) -> GeneratedImage | Failure | Batch:
        return Batch(self.results[index]) if isinstance(index, slice) else self.results[index]

    def __iter__(self) -> Iterator[GeneratedImage | Failure]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        images, failures = self.images, self.failures
        text = f"{len(images):,} image{'' if len(images) == 1 else 's'}"
        if failures:
            reasons = [f"{failure.index}: {printable(failure.error.message, 200)}" for failure in failures]
            shown = "; ".join(reasons[:_MAX_REASONS] + ["..."] * (len(reasons) > _MAX_REASONS))
            text += f", {len(failures):,} failure{'' if len(failures) == 1 else 's'} ({shown})"
        return f"<Batch: {text}>"

    def _repr_html_(self) -> str:
        from lambdiff.client import gallery

        return gallery.grid([each.error if isinstance(each, Failure) else each for each in self.results])


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
                with cancelled_if(stopped.is_set):
                    finished.put((index, generate(request, lambda _done, _total: stopped.is_set())))
            except LambdiffError as error:
                finished.put((index, Failure(index, request, error)))
            except BaseException as error:  # raised again in the caller's thread
                finished.put((index, error))

    results: dict[int, GeneratedImage | Failure] = {}
    try:
        # Daemon threads instead of an executor: Ctrl-C must end the program even if a request would run for minutes.
        for number in range(min(max(1, max_workers), len(requests))):
            with contextlib.suppress(RuntimeError) if number else contextlib.nullcontext():  # no more threads allowed
                threading.Thread(target=work, daemon=True).start()
        while len(results) < len(requests):
            try:
                # With a timeout, because the system may deliver Ctrl-C to another thread, which does not wake this one.
                index, result = finished.get(timeout=INTERVAL_S)
            except queue.Empty:
                continue
            if isinstance(result, BaseException):
                raise result
            results[index] = result
            if on_result:
                on_result(index, result)
    finally:
        stopped.set()
    return Batch([results[index] for index in range(len(requests))])
