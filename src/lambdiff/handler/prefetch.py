"""Reads the files for a cold start into the page cache before they are needed, many chunks in parallel.

Lambda loads the chunks of a container image when they are first read. Without prefetching, a start waits for one chunk
after another, as the linker and page faults reach them. Nearly all content of these files is needed, so little is read
in vain; docs/cold-start.md has the figures.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGES: Final = Path(__file__).parents[2]
"""In the image, third-party packages are next to lambdiff. Elsewhere there may be none, which does not matter."""
LIBRARIES: Final = (
    "numpy/_core/_multiarray_umath.*.so",
    "tokenizers/*.so",
    "openvino/*.so",
    "openvino/libs/*.so*",
    "PIL/_imaging.*.so",
)
"""Compiled libraries that are read almost completely, in the order in which they are needed."""
CHUNK: Final = 4 * 1024 * 1024
"""Bytes that a thread reads before it needs the interpreter again, which is busy with imports."""
THREADS: Final = 8


def start(model_dir: Path) -> list[threading.Thread]:
    """Start reading a model's files and the engine's libraries. Returns immediately and never fails.

    Args:
        model_dir: a baked folder.

    Returns:
        The reading threads.
    """
    chunks = _chunks(model_dir)
    next_chunk = threading.Lock()
    threads = [threading.Thread(target=_read, args=(chunks, next_chunk), daemon=True) for _ in range(THREADS)]
    with contextlib.suppress(RuntimeError):  # the system allows no more threads
        for thread in threads:
            thread.start()
    return threads


def _read(chunks: Iterator[tuple[Path, int]], next_chunk: threading.Lock) -> None:
    while True:
        try:
            with next_chunk:
                chunk = next(chunks, None)
        except OSError:  # a folder that may not be listed
            return
        if chunk is None:
            return
        path, offset = chunk
        with contextlib.suppress(OSError), path.open("rb") as source, open(os.devnull, "wb") as sink:
            # sendfile copies nothing and does not hold the interpreter's lock.
            os.sendfile(sink.fileno(), source.fileno(), offset, CHUNK)


def _chunks(model_dir: Path) -> Iterator[tuple[Path, int]]:
    for path in _files(model_dir):
        with contextlib.suppress(OSError):
            yield from ((path, offset) for offset in range(0, path.stat().st_size, CHUNK))


def _files(model_dir: Path) -> Iterator[Path]:
    for pattern in LIBRARIES:
        yield from sorted(PACKAGES.glob(pattern))
    # The encoder is compiled when a request has a start image.
    yield from sorted(path for path in model_dir.rglob("*") if path.is_file() and path.stem != "encoder")
