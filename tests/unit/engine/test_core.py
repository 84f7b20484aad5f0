"""The single `openvino.Core` of a process (engine/core.py)."""

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


def test_ctrl_c_works_after_engines_are_freed() -> None:
    """After two engines have been freed, SIGINT raises `KeyboardInterrupt` and does not crash the process."""
    done = subprocess.run([sys.executable, "-c", INTERRUPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_only_one_module_creates_a_core() -> None:
    """Only core.py creates a `Core`; a second one would bring the crash back."""
    package = Path(lambdiff.__file__).parent
    creators = [path.name for path in package.rglob("*.py") if re.search(r"\bopenvino\.Core\(\)", path.read_text())]
    assert creators == ["core.py"]
