"""Weights in a memory-mapped file, whose pages are released while OpenVINO copies the weights.

The CPU plugin copies weights into the layout and precision of its kernels: at compilation for static shapes, at the
first inference for dynamic ones. After that, the mapped pages would stay resident without being used. Pages
released with `MADV_DONTNEED` can still be read: from the page cache, or from the file.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from lambdiff.engine.without_telemetry import openvino

_RELEASE_INTERVAL: Final = 0.05
"""Seconds between two releases. A fast disk delivers some 100 MB of weights in this time."""


class MappedWeights:
    """A model's memory-mapped `.bin` file, with the graph description in the `.xml` file next to it.

    Args:
        path: the `.bin` file, not empty.

    Attributes:
        description: the content of the `.xml` file.
        tensor: the weights as bytes, backed by the file.

    Example:
        >>> from lambdiff.engine.core import core
        >>> weights = MappedWeights(folder / "unet.bin")
        >>> model = core().read_model(weights.description, weights.tensor)
        >>> with weights.releasing_pages():
        ...     compiled = core().compile_model(model, "CPU")
    """

    def __init__(self, path: Path) -> None:
        self.description = path.with_suffix(".xml").read_text("utf-8")
        with path.open("rb") as stream:
            # Private and writable, because OpenVINO does not accept read-only arrays. Nothing writes to it.
            self._mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        self.tensor = openvino.Tensor(np.frombuffer(self._mapping, np.uint8), shared_memory=True)

    @property
    def size(self) -> int:
        """The bytes of the weights."""
        return len(self._mapping)

    @contextmanager
    def releasing_pages(self) -> Iterator[None]:
        """Release the file's pages repeatedly while the body reads them, and once more at the end.

        If they were released only at the end, the whole file would be resident just when a process that loads a model
        needs the most memory.
        """
        if not hasattr(mmap, "MADV_DONTNEED"):  # Windows
            yield
            return
        done = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            releasing = pool.submit(self._release_until, done)
            try:
                yield
            finally:
                done.set()
            releasing.result()

    def _release_until(self, done: threading.Event) -> None:
        while not done.wait(_RELEASE_INTERVAL):
            self._mapping.madvise(mmap.MADV_DONTNEED)
        self._mapping.madvise(mmap.MADV_DONTNEED)
