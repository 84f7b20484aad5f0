"""The built wheel, installed in a separate environment without the sources."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

# What the wheel must contain besides the code.
DATA = {"builtin_model/manifest.json", "builtin_model/unet.bin", "builtin_model/tokenizer.json", "docker/Dockerfile"}


def run(python: Path, *args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an environment's interpreter in a folder, without PYTHONPATH and the like."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([python, *args], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_is_complete(wheel: Path) -> None:
    """The wheel has the model, the Dockerfile, the type marker and the licenses, but no tests, and is below 25 MB."""
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in DATA | {"lambdiff/py.typed", "licenses/LICENSE", "licenses/NOTICE"}:
        assert any(name.endswith(wanted) for name in names), wanted
    assert not [name for name in names if name.startswith(("tests", "training", "docs"))]
    assert wheel.stat().st_size < 25_000_000


def test_the_wheel_alone_generates_an_image(python: Path, tmp_path: Path) -> None:
    """After installation from the wheel, one command generates an image with the built-in model."""
    done = run(python, "-m", "lambdiff", "generate", "a cat in a top hat", "-o", "cat.png", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "built-in model" in done.stderr
    report = json.loads(done.stdout)
    assert report["images"][0]["model"].startswith("lambdiff")
    assert (tmp_path / "cat.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("command", "extra"),
    [(["bake", "somewhere", "-o", "out"], "bake"), (["deploy", "--yes"], "deploy")],
)
def test_a_missing_extra_is_named_with_its_pip_command(
    python: Path, tmp_path: Path, command: list[str], extra: str
) -> None:
    """A command whose extra is missing exits with 3 and prints the `pip install` command."""
    done = run(python, "-m", "lambdiff", *command, folder=tmp_path)
    assert done.returncode == 3, done.stderr
    assert re.search(rf'-m pip install "lambdiff\[{extra}\] @ file://\S+\.whl"$', done.stderr, re.MULTILINE)


def test_without_the_local_extra_its_pip_line_is_printed(wheel: Path, tmp_path: Path) -> None:
    """Without the `local` extra, `generate` says what to install."""
    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", wheel], check=True)
    done = run(python, "-m", "lambdiff", "generate", "a cat", "-o", "cat.png", folder=tmp_path)
    assert done.returncode == 3, done.stderr
    assert not (tmp_path / "cat.png").exists()
    (command,) = re.findall(r"Install it: (.+)", done.stderr)
    words = [*shlex.split(command), "--dry-run", "--no-deps"]  # the packages of the extra are large
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode == 0, command
