"""Importing the function's entry point (handler/function.py)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lambdiff.local import builtin

REPORT = """
import sys, threading
{first}
from lambdiff.handler import prefetch
started = []
prefetch.start = started.append
import lambdiff.handler.function as function
print([str(folder) for folder in started], "openvino" in sys.modules and function.app.engine.loaded)
"""


@pytest.mark.parametrize(
    ("start", "first", "prefetched", "loaded"),
    [
        ("on-demand", "", True, False),
        ("snap-start", "", False, False),
        ("snap-start", "sys.modules['snapshot_restore_py'] = None", False, True),
    ],
    ids=["on-demand", "snapstart", "snapstart-without-hooks"],
)
def test_importing_prefetches_or_loads_the_model(start: str, first: str, prefetched: bool, loaded: bool) -> None:
    """On demand the import prefetches the model; with SnapStart a hook loads it, or without hooks the import."""
    model = str(builtin.builtin_model_dir())
    environment = {"AWS_LAMBDA_INITIALIZATION_TYPE": start, "LAMBDIFF_MODEL_DIR": model}
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(first=first)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{[model] if prefetched else []} {loaded}\n"
