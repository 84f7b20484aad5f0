"""Reads what a start will need before it needs it, many places at once.

Lambda fetches an image's blocks when they are first read. Left alone, a start waits for one after the other, wherever
the linker or a page fault happens to hit. These files are needed almost whole, so that little is read in vain:
docs/cold-start.md has the figures.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGES: Final = Path(__file__).parents[2]
"""In the image third-party packages lie beside lambdiff; elsewhere nothing may be found, which does no harm."""
LIBRARIES: Final = (
    "numpy/_core/_multiarray_umath.*.so",
    "tokenizers/*.so",
    "openvino/*.so",
    "openvino/libs/*.so*",
    "PIL/_imaging.*.so",
)
"""The compiled code that is touched in most of its chunks, in the order of need."""
PIECE: Final = 4 * 1024 * 1024
"""Bytes that a thread reads before it needs the interpreter again, which is busy with imports."""
THREADS: Final = 8


def begin(model: Path) -> list[threading.Thread]:
    """Start to read a model's files and the engine's libraries into the page cache; returns at once and never fails.

    Args:
        model: a baked folder.

    Returns:
        The threads that read.
    """
    pieces = _pieces(model)
    taking = threading.Lock()
    threads = [threading.Thread(target=_read, args=(pieces, taking), daemon=True) for _ in range(THREADS)]
    with contextlib.suppress(RuntimeError):  # no more threads to be had
        for thread in threads:
            thread.start()
    return threads


def _read(pieces: Iterator[tuple[Path, int]], taking: threading.Lock) -> None:
    while True:
        try:
            with taking:
                piece = next(pieces, None)
        except OSError:  # a folder that may not be listed
            return
        if piece is None:
            return
        path, offset = piece
        with contextlib.suppress(OSError), path.open("rb") as source, open(os.devnull, "wb") as nowhere:
            # Without a copy, and without the interpreter's lock.
            os.sendfile(nowhere.fileno(), source.fileno(), offset, PIECE)


def _pieces(model: Path) -> Iterator[tuple[Path, int]]:
    for path in _files(model):
        with contextlib.suppress(OSError):
            yield from ((path, offset) for offset in range(0, path.stat().st_size, PIECE))


def _files(model: Path) -> Iterator[Path]:
    for pattern in LIBRARIES:
        yield from sorted(PACKAGES.glob(pattern))
    yield from sorted(path for path in model.rglob("*") if path.is_file())
