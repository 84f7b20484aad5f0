"""The one `openvino.Core` of a process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lambdiff

pytestmark = pytest.mark.engine

INTERRUPT = """
import gc, os, signal
import msgspec
from lambdiff.engine import manifest as manifests
from lambdiff.engine.openvino import OpenVinoEngine
from lambdiff.local import builtin
folder = builtin.builtin_model_dir()
manifest = msgspec.structs.replace(manifests.read(folder), inference_precision="auto")
engines = [OpenVinoEngine(folder, manifest) for _ in range(2)]
for engine in engines:
    engine.load()
del engine
while engines:
    del engines[0]  # the first one made is freed first
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_works_after_engines_are_gone() -> None:
    """A signal that arrives when two engines have been freed is handled, and does not crash the process."""
    done = subprocess.run([sys.executable, "-c", INTERRUPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_nothing_else_makes_a_core() -> None:
    """A second Core anywhere in the package would bring the crash back."""
    package = Path(lambdiff.__file__).parent
    makers = [path.name for path in package.rglob("*.py") if re.search(r"\bopenvino\.Core\(\)", path.read_text())]
    assert makers == ["core.py"]
