"""The public API as type checkers see it: mypy and pyright check `typing_cases.py`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("typing_cases.py")
ROOT = Path(__file__).parents[3]
Errors = dict[int, set[str]]
"""Error codes by line number."""


def expected(which: int) -> dict[int, str]:
    """Return the error code that each marked line expects; `which` is 0 for mypy and 1 for pyright."""
    marker = re.compile(r"# error: ([\w-]+), (\w+)$")
    lines = enumerate(CASES.read_text().splitlines(), 1)
    return {number: match.groups()[which] for number, line in lines if (match := marker.search(line))}


def mypy() -> Errors:
    """Return mypy's errors with this project's settings."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--output=json", str(CASES)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode in (0, 1), ran.stderr
    errors: Errors = {}
    for report in map(json.loads, ran.stdout.splitlines()):
        if report["severity"] == "error" and Path(report["file"]).name == CASES.name:
            errors.setdefault(report["line"], set()).add(report["code"])
    return errors


def pyright() -> Errors:
    """Return pyright's errors with its default settings."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(CASES)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode in (0, 1), ran.stderr
    errors: Errors = {}
    for report in json.loads(ran.stdout)["generalDiagnostics"]:
        if report["severity"] == "error":
            errors.setdefault(report["range"]["start"]["line"] + 1, set()).add(report["rule"])
    return errors


@pytest.mark.parametrize(("which", "check"), [(0, mypy), (1, pyright)], ids=["mypy", "pyright"])
def test_type_checkers_refuse_exactly_the_marked_lines(which: int, check: Callable[[], Errors]) -> None:
    """Each marked line has the expected error, and no other line has an error."""
    reported, announced = check(), expected(which)
    assert reported.keys() == announced.keys()
    assert [line for line, code in announced.items() if code not in reported[line]] == []
    assert len(announced) > 25
