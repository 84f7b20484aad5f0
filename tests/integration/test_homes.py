"""Without a usable home folder or working folder, commands still do what they can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lambdiff
from lambdiff.auth.credentials import Keys
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.stub_engine import StubEngine

pytestmark = [pytest.mark.slow, pytest.mark.linux]

KEYS = Keys("AKIDEXAMPLE", "caller-secret")


def run(folder: Path, *command: str, program: str = "pass", **variables: str | None) -> tuple[int, str]:
    """Run a command in a process of its own, after `program`; return its exit code and what it printed.

    As with the installed script, the working folder is not on `sys.path` (`-P`).
    """
    chosen: dict[str, str | None] = {
        **os.environ,
        "LAMBDIFF_HOME": None,
        "XDG_CONFIG_HOME": None,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": KEYS.access_key_id,
        "AWS_SECRET_ACCESS_KEY": KEYS.secret_access_key,
        "PYTHONPATH": str(Path(lambdiff.__file__).parents[1]),
        **variables,
    }
    code = f"import sys; {program}; from lambdiff.cli import main; main(sys.argv[1:])"
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, *command],
        cwd=folder, check=False, timeout=120, text=True,
        env={name: value for name, value in chosen.items() if value is not None},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert "Traceback" not in result.stdout, result.stdout
    return result.returncode, result.stdout


@pytest.fixture
def url() -> Iterator[str]:
    """An endpoint that accepts `KEYS`."""
    with FunctionUrlServer(App(StubEngine), KEYS, "us-east-1") as function:
        yield function.url


@pytest.mark.parametrize(
    ("home", "program"),
    [
        ("/dev/null", "pass"),
        ("/proc/nowhere", "pass"),
        # As in a container that runs as an arbitrary user: no HOME, and no entry in the password database.
        (None, "import pwd; pwd.getpwuid = {}.__getitem__"),
    ],
)
def test_an_image_is_generated_without_a_home(home: str | None, program: str, tmp_path: Path, url: str) -> None:
    """What would be remembered is not remembered, and saving an endpoint says how to save it elsewhere."""
    assert run(tmp_path, "generate", "a cat", "-q", program=program, HOME=home, LAMBDIFF_URL=url) == (0, "a-cat.png\n")
    code, text = run(tmp_path, "configure", "--url", url, program=program, HOME=home)
    assert code == 3
    assert "set LAMBDIFF_HOME to a folder" in text
    assert [path.name for path in tmp_path.iterdir()] == ["a-cat.png"]


def test_a_working_folder_that_is_gone(tmp_path: Path, url: str) -> None:
    """An absolute path for the image is all that is needed; a relative LAMBDIFF_HOME is refused by name."""
    for state, expected in ((str(tmp_path / "home"), 0), ("relative", 3)):
        (tmp_path / "gone").mkdir()
        code, text = run(
            tmp_path / "gone", "generate", "a cat", "-o", str(tmp_path / f"{expected}.png"),
            program="import os; os.rmdir(os.getcwd())", LAMBDIFF_HOME=state, LAMBDIFF_URL=url,
        )  # fmt: skip
        assert (code, "LAMBDIFF_HOME" in text) == (expected, expected == 3)
