"""The code blocks of the README work when they are pasted in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_blocks_run_in_order(tmp_path: Path) -> None:
    """All blocks except those that deploy or run the tests run in one shell and write the expected images."""
    script = ["set -euo pipefail"]
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        if "pytest" in block or "lambdiff deploy" in block:
            continue
        script.append(f"python - <<'END'\n{block}END" if language == "python" else block)
    text = "\n".join(script).replace('python3 -m venv .venv && .venv/bin/pip install -q ".[local]" && ', "")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    result = subprocess.run(
        ["bash", "-c", text], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=250, check=False
    )
    assert result.returncode == 0, result.stderr
    files = {path.name for path in tmp_path.iterdir() if path.suffix in {".png", ".webp"}}
    assert files == {"cat.png", "other-cat.png", "sdk-cat.png", *(f"fox-{seed}.webp" for seed in range(7, 11))}
