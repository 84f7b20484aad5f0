"""Starts a program that never outlives this one, with everything that it starts in turn."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lambdiff.infra import process_guard

_SECONDS_TO_END: Final = 5
"""How long a process may take to end after a signal."""


@contextlib.contextmanager
def start(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], cwd: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a program; its output, stderr included, is what `stdout` of the process has.

    If the block raises, the program is stopped. If this program is killed, a guard stops it.

    Args:
        command: the program and its arguments.
        folder: for the program's temporary files; the guard removes it.
        environment: all its environment variables.
        cwd: the folder that it is started in.
    """
    folder = folder.absolute()
    guard = [sys.executable, "-I", process_guard.__file__, str(folder)] if os.name == "posix" else []
    process = subprocess.Popen(
        [*guard, *command],
        cwd=cwd,
        env={**environment, "TMPDIR": str(folder)},  # so that nothing is left if a tool is stopped
        stdin=subprocess.PIPE,  # closes when this process is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches only this process, which then stops the whole group
    )
    with process:
        try:
            yield process
        except BaseException:
            stop(process)
            raise


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process and its children: SIGTERM first, SIGKILL if that is not enough.

    Not SIGINT, because the CDK CLI ignores it until it has finished.
    """
    with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
        _signal(process, signal.SIGTERM)
        process.wait(_SECONDS_TO_END)
    with contextlib.suppress(ProcessLookupError):  # also if only children are left
        _signal(process, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()


def _signal(process: subprocess.Popen[Any], number: int) -> None:
    if os.name == "posix":
        os.killpg(process.pid, number)
    elif process.poll() is None:
        process.terminate()
