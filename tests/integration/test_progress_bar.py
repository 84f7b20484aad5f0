"""The progress bar of the real command on a terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.linux]


def test_a_narrow_terminal_in_the_c_locale(tmp_path: Path) -> None:
    """Loading is named, then images and steps are counted, in ASCII; at the end the line and the bar are gone."""
    # Many steps, so that they last longer than the time between two refreshes on any machine.
    command = ["-m", "lambdiff", "generate", "a cat", "--local", "-n", "2", "--steps", "80", "-o", "cat.png"]
    environment = {**os.environ, "LC_ALL": "C", "TERM": "xterm"}
    shown = pexpect.spawn(
        sys.executable, command, env=environment, cwd=tmp_path, dimensions=(24, 40), encoding="utf-8", timeout=100
    )
    output = shown.read()
    shown.close()
    assert shown.exitstatus == 0, output
    assert output.isascii()
    assert "0 of 2, loading the model" in output or "0 of 2, compiling the model" in output
    assert "of 2, step" in output
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # the cursor is visible again
    assert output.endswith("cat-1.png\r\ncat-2.png\r\n")
