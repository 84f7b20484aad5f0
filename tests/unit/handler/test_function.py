"""The function's entry point: what importing it sets off."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lambdiff.local import builtin

REPORT = """
import sys, threading
{first}
import lambdiff.handler.prefetch as readahead
begun = []
readahead.begin = begun.append
import lambdiff.handler.function as function
print([str(folder) for folder in begun], "openvino" in sys.modules and function.app.engine.loaded)
"""


@pytest.mark.parametrize(
    ("start", "first", "begun", "loaded"),
    [
        ("on-demand", "", True, False),
        ("snap-start", "", False, False),
        ("snap-start", "sys.modules['snapshot_restore_py'] = None", False, True),
    ],
    ids=["on demand", "before the snapshot", "before the snapshot, without hooks"],
)
def test_what_happens_at_import(start: str, first: str, begun: bool, loaded: bool) -> None:
    """On demand the model is read ahead and not loaded; with SnapStart it is loaded by the hook, or at once without."""
    model = str(builtin.builtin_model_dir())
    environment = {"AWS_LAMBDA_INITIALIZATION_TYPE": start, "LAMBDIFF_MODEL_DIR": model}
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(first=first)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{[model] if begun else []} {loaded}\n"
