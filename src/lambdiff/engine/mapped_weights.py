"""Weights that OpenVINO reads in their file, which is put out of memory as they are copied.

The CPU plugin copies weights into the layout and the arithmetic of its kernels: while it compiles a graph of fixed
shapes, else at the first call. The file's pages then stay mapped and count as the process's memory for nothing. Given
back, they can still be read: from the page cache, or from the file.
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
import openvino

_SECONDS: Final = 0.05
"""Between giving back and giving back: at the speed of a fast disk, some 100 MB of weights."""


class Weights:
    """A model's `.bin` file, mapped, and the description that belongs to it, read once with it.

    Args:
        path: the file, not empty; the `.xml` is beside it.

    Example:
        >>> weights = Weights(folder / "unet.bin")                          # doctest: +SKIP
        >>> model = core.read_model(weights.description, weights.tensor)    # doctest: +SKIP
        >>> with weights.released():                                        # doctest: +SKIP
        ...     compiled = core.compile_model(model, "CPU")
    """

    def __init__(self, path: Path) -> None:
        self.description = path.with_suffix(".xml").read_text("utf-8")
        with path.open("rb") as stream:
            # Private and writable, since OpenVINO takes no read-only array; nothing writes to it.
            self._mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        self.tensor = openvino.Tensor(np.frombuffer(self._mapping, np.uint8), shared_memory=True)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Keep the file's pages out of the process's memory while the body reads them, and when it has.

        They are given back again and again meanwhile: otherwise the file is in memory a second time just before the
        end, which is when a process that loads a model needs most.
        """
        if not hasattr(mmap, "MADV_DONTNEED"):  # on Windows
            yield
            return
        done = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            giving_back = pool.submit(self._give_back_until, done)
            try:
                yield
            finally:
                done.set()
            giving_back.result()

    def _give_back_until(self, done: threading.Event) -> None:
        while not done.wait(_SECONDS):
            self._mapping.madvise(mmap.MADV_DONTNEED)
        self._mapping.madvise(mmap.MADV_DONTNEED)
