"""Runs a command and ends it, with everything that it has started, when the program that asked for it is gone.

    python process_guard.py FOLDER COMMAND...

The program holds the other end of stdin. When that closes, because the program was killed, the whole process group ends
and FOLDER, with the command's temporary files, is removed. Imports nothing of lambdiff, so that it starts quickly.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

SECONDS_TO_END = 5


def remove(folder: str) -> None:
    """Remove a folder, although processes that are just ending may still write to it."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.1)


def main(folder: str, *command: str) -> int:
    """Run the command and return its exit status."""
    # Handlers, because the command would inherit ignored signals. Those of the group are meant for the command.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    abandoned = threading.Event()

    def end_if_abandoned() -> None:
        while os.read(0, 1):
            pass
        abandoned.set()
        os.killpg(os.getpgrp(), signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(SECONDS_TO_END)
        remove(folder)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    watch = threading.Thread(target=end_if_abandoned, daemon=True)
    watch.start()
    status = child.wait()
    if abandoned.is_set():
        watch.join()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
