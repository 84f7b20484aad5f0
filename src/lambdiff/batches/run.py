"""Make the images of a batch: on several threads, each image once, until all are there or something stops the run."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from lambdiff.batches.fan_out import FanOut
from lambdiff.batches.items import Item, ItemReader
from lambdiff.batches.results_folder import ResultLine, ResultsFolder, RowError
from lambdiff.client import notebook
from lambdiff.client.client import Client
from lambdiff.client.image import GeneratedImage
from lambdiff.engine.cancellation import INTERVAL_S, cancelled_if
from lambdiff.errors import (
    AccessDenied,
    Cancelled,
    ConfigurationError,
    EndpointFailed,
    EndpointRefused,
    EndpointTimeout,
    EndpointUnreachable,
    LambdiffError,
    Throttled,
)
from lambdiff.printable import printable

PATIENCE_S: Final = 900.0
"""How long the run goes on without any image, if the endpoint is busy or cannot be reached."""
_LOCAL_WORKERS: Final = 2
"""This machine generates one image at a time; the second thread prepares and writes meanwhile."""


class BatchRun:
    """A batch that is being made, in the background. Iterate over it to get each result as it comes.

    Args:
        reader: what to make.
        folder: where to.
        client: generates the images. The run closes it, and the folder.
        total: the number of images.
        max_workers: the most requests that run at once.
        retries: how often a request is sent again whose image the endpoint has lost: after a 5xx reply or a broken
            connection, but never after a timeout. It may be billed each time.
        patience_s: how long the run goes on without any image, if the endpoint is busy or cannot be reached.
        on_end: called once when all results have been written, for example to make a contact sheet.

    Attributes:
        total: the number of images.
        folder: where they are.

    Example:
        >>> run = lambdiff.batch(["a cat", "a dog"], "animals", seed=7, local=True)
        >>> sorted(line.number for line in run)
        [1, 2]
        >>> [record["prompt"] for record in run.results()]
        ['a cat', 'a dog']
    """

    def __init__(
        self,
        reader: ItemReader,
        folder: ResultsFolder,
        client: Client,
        total: int,
        *,
        max_workers: int,
        retries: int = 0,
        patience_s: float = PATIENCE_S,
        on_end: Callable[[BatchRun], object] | None = None,
    ) -> None:
        self.total = total
        self.folder = folder
        self.client = client
        self._on_end = on_end
        self._lines: queue.SimpleQueue[ResultLine | None] = queue.SimpleQueue()
        self._finished = 0
        self._failed = 0
        self._made: set[tuple[int, str]] = set()
        self._work = _Work(reader, folder, client, self._lines.put, retries=retries, patience_s=patience_s)
        workers = min(_LOCAL_WORKERS if client.endpoint.local else max_workers, max(total, 1))
        self._thread = threading.Thread(
            target=self._run, args=(FanOut(workers), workers), name="lambdiff-batch", daemon=True
        )
        self._thread.start()

    @property
    def finished(self) -> int:
        """How many results have come so far, failures included."""
        return self._finished

    @property
    def failed(self) -> int:
        """How many of them are failures."""
        return self._failed

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return not self._thread.is_alive()

    def __iter__(self) -> Iterator[ResultLine]:
        """Yield each result once, in the order in which they are finished; images that were there before come, too.

        Raises:
            LambdiffError: what has stopped the run. Finished images stay.
        """
        while True:
            try:
                # With a timeout, because the system may deliver Ctrl-C to another thread, which does not wake this one.
                line = self._lines.get(timeout=INTERVAL_S)
            except queue.Empty:
                if self.done and self._lines.empty():
                    break
                continue
            if line is None:
                break
            self._finished += 1
            self._failed += line.error is not None
            self._made.add((line.number, line.key))
            yield line
        self._thread.join()
        if self._work.stopped_by is not None:
            raise self._work.stopped_by

    def wait(self) -> BatchRun:
        """Wait until all images are there, and return this run. A notebook shows progress and warnings.

        Raises:
            LambdiffError: as for iterating.
        """
        with notebook.display(self.client.transport, self.total) as cell:
            for line in self:
                cell.finished(line.warnings)
        return self

    def cancel(self) -> None:
        """Stop the run, and wait for it to end. What this machine is generating is cancelled; finished images stay.

        A request that an endpoint is working on cannot be taken back, and its image is lost.
        """
        self._work.stop(Cancelled("The batch was cancelled."))
        self._thread.join(timeout=2.0)

    def results(self) -> list[dict[str, Any]]:
        """Wait for the run to end, and return its results by number, as flat records that pandas takes.

        Raises:
            LambdiffError: as for iterating.
        """
        self.wait()
        return [line.record() for line in self.lines()]

    def lines(self) -> list[ResultLine]:
        """Return the results that have come so far, by number."""
        return [line for line in self.folder.latest() if (line.number, line.key) in self._made]

    def __repr__(self) -> str:
        failures = f", {self._failed:,} failed" if self._failed else ""
        return f"<BatchRun: {self._finished:,} of {self.total:,}{failures}>"

    def _run(self, fan_out: FanOut, workers: int) -> None:
        threads = [threading.Thread(target=self._work.work, args=(fan_out,), daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            if self._on_end and self._work.stopped_by is None:
                self._on_end(self)
        except LambdiffError as error:
            self._work.stop(error)
        finally:
            self.client.close()
            self.folder.close()
            self._lines.put(None)


class _Work:
    """What the threads of a run share: the items that are left, and the reason to stop."""

    def __init__(
        self,
        reader: ItemReader,
        folder: ResultsFolder,
        client: Client,
        emit: Callable[[ResultLine], object],
        *,
        retries: int,
        patience_s: float,
    ) -> None:
        self._folder, self._client, self._emit = folder, client, emit
        self._retries = retries
        self._patience_s = patience_s
        self._items = reader.items()
        self._model = reader.model
        self._mutex = threading.Lock()
        self._again: deque[tuple[Item, int]] = deque()
        self._held_elsewhere: deque[Item] = deque()
        self._running = 0
        self._last_image = time.monotonic()
        self._stopping = threading.Event()
        self.stopped_by: LambdiffError | BaseException | None = None

    def stop(self, reason: BaseException) -> None:
        """Let the threads end; the first reason counts."""
        with self._mutex:
            if self.stopped_by is None:
                self.stopped_by = reason
        self._stopping.set()

    def work(self, fan_out: FanOut) -> None:
        """Make one image after the other until none is left."""
        try:
            while not self._stopping.is_set():
                if not fan_out.is_open:
                    self._stopping.wait(INTERVAL_S)
                    continue
                taken = self._take()
                if taken is None:
                    if self._nothing_left:
                        return
                    self._stopping.wait(INTERVAL_S)
                    continue
                try:
                    self._make(*taken, fan_out)
                finally:
                    with self._mutex:
                        self._running -= 1
        except BaseException as error:  # raised again where the results are read
            self.stop(error)

    @property
    def _nothing_left(self) -> bool:
        with self._mutex:
            return not (self._running or self._again or self._held_elsewhere)

    def _take(self) -> tuple[Item, int] | None:
        """Return the next item, and how often it has been tried."""
        with self._mutex:
            taken: tuple[Item, int] | None = None
            if self._again:
                taken = self._again.popleft()
            elif (item := next(self._items, None)) is not None:
                taken = item, 0
            elif self._held_elsewhere and not self._running:
                time.sleep(INTERVAL_S)  # another process is making it
                taken = self._held_elsewhere.popleft(), 0
            if taken is not None:
                self._running += 1
            return taken

    def _make(self, item: Item, tries: int, fan_out: FanOut) -> None:
        if self._is_there(item):
            return
        if not self._folder.locks.acquire(item.key):
            with self._mutex:
                self._held_elsewhere.append(item)
            return
        try:
            if not self._is_there(item):  # another process may just have finished it
                self._generate(item, tries, fan_out)
        finally:
            self._folder.locks.release(item.key)

    def _is_there(self, item: Item) -> bool:
        with self._mutex:
            file = self._folder.find(item)
            if file is None:
                return False
            line = ResultLine.of(item, file=file)
            if not self._folder.is_listed(item):
                self._folder.append(line)
        self._emit(line)
        return True

    def _generate(self, item: Item, tries: int, fan_out: FanOut) -> None:
        began, started = time.perf_counter(), fan_out.start()
        try:
            with cancelled_if(self._stopping.is_set):
                image = self._client.generate_request(item.request, lambda _done, _total: self._stopping.is_set())
        except LambdiffError as error:
            self._failed(item, tries, error, fan_out, started)
            return
        finally:
            fan_out.end()
        fan_out.succeeded()
        self._last_image = time.monotonic()
        self._check_model(image)
        file = self._folder.write_image(item, image.content)
        self._finish(
            ResultLine.of(
                item,
                file=file,
                seconds=round(time.perf_counter() - began, 3),
                cost=image.cost,
                model=image.model,
                engine=image.engine,
                warnings=image.warnings,
            )
        )

    def _failed(self, item: Item, tries: int, error: LambdiffError, fan_out: FanOut, started: float) -> None:
        if isinstance(error, Cancelled) and self._stopping.is_set():
            return
        if isinstance(error, Throttled | EndpointUnreachable):  # nothing was generated
            if time.monotonic() - self._last_image > self._patience_s:
                raise error
            self._try_again(item, tries)
            self._stopping.wait(fan_out.throttled(started))
        elif isinstance(error, EndpointFailed) and not isinstance(error, EndpointTimeout) and tries < self._retries:
            self._try_again(item, tries + 1)
        elif isinstance(error, EndpointFailed | EndpointRefused) and not isinstance(error, AccessDenied):
            self._finish(ResultLine.of(item, file=None, error=RowError.of(error)))
        else:  # concerns every row: no permission, no credentials, no model, no space
            raise error

    def _try_again(self, item: Item, tries: int) -> None:
        with self._mutex:
            self._again.append((item, tries))

    def _finish(self, line: ResultLine) -> None:
        self._folder.append(line)
        self._emit(line)

    def _check_model(self, image: GeneratedImage) -> None:
        if image.model and image.model != self._model:
            raise ConfigurationError(
                f"The endpoint has another model now: {printable(image.model, 100)} instead of {self._model}.",
                fix="Run the batch again: it asks the endpoint which model it has.",
            )
