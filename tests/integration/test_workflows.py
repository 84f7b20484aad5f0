"""The GitHub workflows pass actionlint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def actionlint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run actionlint over a folder of workflows."""
    command = [sys.executable, ROOT / ".ci" / "actionlint.py", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


def test_the_workflows_pass_actionlint() -> None:
    """actionlint checks both workflows and reports nothing."""
    done = actionlint(ROOT / ".github" / "workflows")
    assert done.returncode == 0, done.stdout
    assert "Checking 2 workflow file(s)" in done.stdout


def test_the_example_workflow_passes_actionlint() -> None:
    """The workflow that deploys from GitHub Actions is valid."""
    done = actionlint(ROOT / "examples" / "github")
    assert done.returncode == 0, done.stdout


def test_actionlint_finds_a_mistake(tmp_path: Path) -> None:
    """actionlint reports an unknown runner and an unknown property in an expression."""
    steps = "[{run: 'echo ${{ github.evnt }}'}]"
    (tmp_path / "bad.yml").write_text(f"on: push\njobs: {{a: {{runs-on: ubuntu-lates, steps: {steps}}}}}\n")
    done = actionlint(tmp_path)
    assert done.returncode == 1
    assert "ubuntu-lates" in done.stdout
    assert "evnt" in done.stdout


def test_actionlint_refuses_a_folder_without_workflows(tmp_path: Path) -> None:
    """A folder without workflows is an error rather than a success."""
    assert actionlint(tmp_path).returncode == 1
