"""infra/stopping.py: signals in a block."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any

import pytest

from lambdiff.bench.interrupts import Stopping


def test_a_signal_in_the_middle_of_a_write(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """It is passed over with its words, though the stream that it interrupted takes no others just then."""
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
    with Stopping("passed over") as stopping:
        stopping.patient = True
        print("a stage", file=sys.stderr, flush=True)
    assert not stopping.patient
    assert written == [b"a stage\n"]
    assert capfd.readouterr().err == "passed over\n"
