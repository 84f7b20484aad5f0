"""Deferring signals while a change is being undone (interrupts.py)."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from lambdiff.interrupts import DeferredInterrupt


def test_a_signal_during_a_write_is_ignored(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The message is printed even if the signal arrives during a write to stderr, which accepts no nested write."""
    written: list[bytes] = []

    class Raw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            if not written:
                written.append(bytes(data))
                os.kill(os.getpid(), signal.SIGINT)
            return len(data)

    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(Raw())))
    with DeferredInterrupt("ignored") as interrupts:
        interrupts.ignore_next = True
        print("a stage", file=sys.stderr, flush=True)
    assert not interrupts.ignore_next
    assert written == [b"a stage\n"]
    assert capfd.readouterr().err == "ignored\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_interrupts_the_block(name: str) -> None:
    """Even a signal that would end the program raises `KeyboardInterrupt`; the previous handler is restored."""
    number = getattr(signal, name)
    handler = signal.default_int_handler
    before = signal.signal(number, handler)
    try:
        with pytest.raises(KeyboardInterrupt), DeferredInterrupt("ignored"):
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


PROGRAM = """
import hashlib
from lambdiff.interrupts import DeferredInterrupt
with DeferredInterrupt("ignored"):
    print("computing", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.mark.slow
def test_a_signal_is_acknowledged_during_a_long_computation() -> None:
    """Python cannot interrupt a library's computation; that the signal was received is said all the same."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "computing\n"
        time.sleep(0.5)  # until the computation itself has begun
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == "Interrupted; waiting for the current step to end.\n"
        assert process.poll() is None
        process.kill()
