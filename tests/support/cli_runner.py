"""Run the command line, in this process or in another one, against an endpoint on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KEY, SECRET = "AKIDEXAMPLE", "very-secret-key"
"""The credentials that the endpoint accepts."""


@dataclass
class Result:
    """Exit code and output of a command."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> dict:
        """stdout as JSON."""
        return json.loads(self.out)


Run = Callable[..., Result]


def run_process(*args: str | bytes | os.PathLike[str], env: dict[str, str] | None = None, **options: Any) -> Result:
    """Run a command in a process of its own, which gets stdin, signals and descriptors like any program.

    Args:
        args: the command's arguments.
        env: variables to add to those of this process.
        options: of `subprocess.run`; stdout and stderr are pipes unless they are given.
    """
    command = [sys.executable, "-m", "lambdiff", *args]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 100, **options}
    done = subprocess.run(command, env={**os.environ, **(env or {})}, check=False, **options)
    return Result(done.returncode, done.stdout or b"", (done.stderr or b"").decode("utf-8", "backslashreplace"))
