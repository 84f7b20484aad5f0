"""Progress of a picture: a bar on a terminal, a bar in a notebook, nothing in a pipe."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from lambdiff import config
from lambdiff.errors import NOT_JSON
from lambdiff.files import write_whole
from lambdiff.protocol.http import OnStep


@contextlib.contextmanager
def notebook() -> Iterator[OnStep | None]:
    """A bar under the cell in a notebook, which is taken away when the picture is there; elsewhere nothing."""
    if not _in_notebook():
        yield None
        return
    ipython: Any = importlib.import_module("IPython.display")

    started = time.perf_counter()

    def html(done: int, total: int) -> Any:
        value = f'value="{done}" ' if done else ""
        return ipython.HTML(
            f'<progress {value}max="{total}"></progress> step {done} of {total}, {time.perf_counter() - started:.1f} s'
        )

    handle = ipython.display(ipython.HTML("<progress></progress> drawing"), display_id=True)

    def on_step(done: int, total: int) -> None:
        handle.update(html(done, total))

    try:
        yield on_step
    finally:
        handle.update(ipython.HTML(""))


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def expected_seconds(where: str) -> float | None:
    """Seconds that the last picture of this endpoint took, or None."""
    try:
        return msgspec.json.decode((config.home() / "seconds.json").read_bytes(), type=dict[str, float]).get(where)
    except (OSError, *NOT_JSON):
        return None


def remember_seconds(where: str, seconds: float) -> None:
    """Keep the time of a picture as the next one's expectation; failing to is no error."""
    path = config.home() / "seconds.json"
    try:
        known = msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except (OSError, *NOT_JSON):
        known = {}
    known[where] = round(seconds, 2)
    with contextlib.suppress(Exception):
        write_whole(path, msgspec.json.encode(known), force=True, mode=0o600)
