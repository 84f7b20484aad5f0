"""Completion in a real Bash on a terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect
import pytest

from lambdiff import config
from lambdiff.config import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.linux]

SETTINGS = ("bind 'set bell-style none'", "bind 'set enable-bracketed-paste off'")
LINES = {
    "lambdiff gen": "lambdiff generate ",
    "lambdiff generate 'a cat' --ste": "lambdiff generate 'a cat' --steps ",
    "lambdiff generate --deployment=pr": "lambdiff generate --deployment=prod ",
    "lambdiff generate x -o ca": "lambdiff generate x -o cat.png ",
    "lambdiff bake tin": "lambdiff bake tiny-sd ",
    "lambdiff bake my": "lambdiff bake my-model/",
}


def test_bash_completes_commands_deployments_models_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the line of the documentation, Tab completes each word."""
    monkeypatch.chdir(tmp_path)
    Path("cat.png").touch()
    Path("my-model").mkdir()
    config.save(Deployment(name="prod", url="https://abc.lambda-url.us-east-1.on.aws/", region="us-east-1"))
    Path("bin").mkdir()
    program = Path("bin/lambdiff")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lambdiff "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
    bash = pexpect.spawn("bash", ["--norc", "-i"], env=environment, dimensions=(50, 200), encoding="utf-8", timeout=60)
    try:
        bash.sendline("; ".join(SETTINGS))
        bash.sendline('eval "$(_LAMBDIFF_COMPLETE=bash_source lambdiff)"')
        completed = {}
        for number, line in enumerate(LINES):
            bash.sendline(f"echo ready $(({number} + 1000))")
            bash.expect_exact(f"ready {number + 1000}")
            bash.expect_exact("$ ")
            # Tab completes it. Instead of being run, it becomes a comment (Ctrl-A, #), and is read from the history.
            bash.send(f"{line}\t\x01#\rfc -ln -1\r")
            bash.expect(r"\n\t #(.*?)\r\n")
            completed[line] = bash.match[1]
        assert completed == LINES
    finally:
        bash.close(force=True)
