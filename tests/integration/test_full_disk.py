"""A disk that is full ends a bake with one sentence and its exit code, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import tiny_pipeline

pytestmark = [pytest.mark.engine, pytest.mark.linux]

# A limit on the size of files fails a write in the middle, as a full disk does.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from lambdiff.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("engine", "limit"), [("diffusers", 20_000), ("openvino", 1_000), ("openvino", 20_000)],
    ids=["while copying", "at the tokenizer", "while storing a part"],
)  # fmt: skip
def test_a_full_disk_is_reported(tmp_path: Path, engine: str, limit: int) -> None:
    """Wherever it happens, the exit code is 6, the advice names the disk, and no file is left."""
    source = tiny_pipeline.folder()
    command = ["bake", str(source), "-o", "out", "--engine", engine]
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 6, result.stderr
    assert "could not be written" in result.stderr
    assert "Free some space on the disk" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
