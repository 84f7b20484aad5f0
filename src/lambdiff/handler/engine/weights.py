"""Weights that OpenVINO reads in their file, which is put out of memory once they are copied. Copied into the image.

The CPU plugin copies weights into the layout and the arithmetic of its kernels: while it compiles a graph of fixed
shapes, else at the first call. The file's pages then stay mapped and count as the process's memory for nothing. Given
back, they can still be read: from the page cache, or from the file.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import openvino


class Weights:
    """A model's `.bin` file, mapped, and the description that belongs to it, read once with it.

    Args:
        path: the file, not empty; the `.xml` is beside it.

    Example:
        >>> weights = Weights(folder / "unet.bin")                          # doctest: +SKIP
        >>> model = core.read_model(weights.description, weights.tensor)    # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        self.description = path.with_suffix(".xml").read_text("utf-8")
        with path.open("rb") as stream:
            # Private and writable, since OpenVINO takes no read-only array; nothing writes to it.
            self._mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        self.tensor = openvino.Tensor(np.frombuffer(self._mapping, np.uint8), shared_memory=True)

    def give_back(self) -> None:
        """Take the file's pages out of the process's memory; safe at any time, whoever reads them."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._mapping.madvise(mmap.MADV_DONTNEED)
