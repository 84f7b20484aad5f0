"""A progress bar below a notebook's cell."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from lambdiff.protocol.contract import OnStep


@contextlib.contextmanager
def progress_bar() -> Iterator[OnStep | None]:
    """Show a bar that disappears when the block ends; yield None outside a notebook."""
    if not _in_notebook():
        yield None
        return
    # Imported by name: IPython is not a dependency, but a notebook always has it.
    ipython: Any = importlib.import_module("IPython.display")
    started = time.perf_counter()
    handle = ipython.display(ipython.HTML("<progress></progress> generating"), display_id=True)

    def on_step(done: int, total: int) -> None:
        value = f'value="{done}" ' if done else ""
        seconds = time.perf_counter() - started
        handle.update(
            ipython.HTML(f'<progress {value}max="{total}"></progress> step {done} of {total}, {seconds:.1f} s')
        )

    try:
        yield on_step
    finally:
        handle.update(ipython.HTML(""))


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"
