"""The second `lambdiff generate --local` uses the graphs that the first has compiled, and gives the same image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

# Runs the command line, and prints how many models OpenVINO has compiled.
COMMAND = """
import sys
from lambdiff.engine.without_telemetry import openvino
compiled, compile_model = [], openvino.Core.compile_model
openvino.Core.compile_model = lambda *arguments: compiled.append(arguments) or compile_model(*arguments)
from lambdiff.cli import main
try:
    main(["generate", "a red apple", "--local", "--seed", "7", "--steps", "2", "-o", sys.argv[1], "--quiet"])
except SystemExit as exit:
    assert not exit.code, exit.code
    print(len(compiled))
"""


@pytest.fixture(autouse=True)
def cache(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turn the cache on; the path is that of its folder."""
    monkeypatch.delenv("LAMBDIFF_NO_CACHE")
    return clean_environment / "cache" / "compiled"


def start(image: Path, **environment: str) -> subprocess.Popen[str]:
    """Start to generate an image in a new process."""
    command = [sys.executable, "-c", COMMAND, str(image)]
    return subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> int:
    """Return how many graphs the process has compiled."""
    stdout, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return int(stdout.split()[-1])


def files(cache: Path) -> dict[Path, tuple[int, int]]:
    """Return the files in the cache; a file that is written again gets another value."""
    return {path: (path.stat().st_ino, path.stat().st_size) for path in cache.rglob("*") if path.is_file()}


def test_the_second_command_compiles_nothing_and_gives_the_same_bytes(tmp_path: Path, cache: Path) -> None:
    """Without the cache, while it is filled, and from it, a request gives the same file."""
    assert finish(start(tmp_path / "without.png", LAMBDIFF_NO_CACHE="1")) == 3
    assert files(cache) == {}
    assert finish(start(tmp_path / "first.png")) == 3
    kept = files(cache)
    assert len(kept) == 3
    assert sum(size for _, size in kept.values()) <= 60_000_000
    assert finish(start(tmp_path / "second.png")) == 0
    assert files(cache) == kept
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in ("without", "first", "second")}) == 1


def test_first_commands_at_once_do_not_disturb_each_other(tmp_path: Path, cache: Path) -> None:
    """Processes that start together each generate the image, and leave one set of complete files."""
    processes = [start(tmp_path / f"{number}.png") for number in range(3)]
    assert max(map(finish, processes)) == 3
    assert len({(tmp_path / f"{number}.png").read_bytes() for number in range(3)}) == 1
    assert len(files(cache)) == 3
    assert finish(start(tmp_path / "after.png")) == 0


def test_a_script_that_closes_nothing_keeps_its_graphs(cache: Path) -> None:
    """`lambdiff.generate` has no end that a script could mark: the graphs are kept when the process ends."""
    script = "import lambdiff; lambdiff.generate('a red apple', num_inference_steps=1, local=True)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    assert len(files(cache)) == 3
