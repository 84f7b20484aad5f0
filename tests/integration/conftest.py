"""The command line with an endpoint on loopback, and the wheel in an environment with nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambdiff.auth.credentials import Keys
from lambdiff.cli import main
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from support.cli_runner import KEY, SECRET, Result, Run
from support.keys import SECRETS
from support.stub_engine import StubEngine

ROOT = Path(__file__).parents[2]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that build and install the wheel: its `local` extra brings OpenVINO."""
    if {"wheel", "python"} & set(getattr(item, "fixturenames", ())):
        item.add_marker("engine")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT], check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has only the wheel and its `local` extra."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", f"{wheel}[local]"], check=True)
    return python


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command in this process and return its exit code, stdout and stderr."""

    def run(*args: str | os.PathLike[str]) -> Result:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        out, err = capfdbinary.readouterr()
        assert not any(secret.encode() in out + err for secret in SECRETS)
        return Result(int(ended.value.code or 0), out, err.decode())

    return run


@pytest.fixture
def engine() -> StubEngine:
    """The engine behind the endpoint."""
    return StubEngine()


@pytest.fixture
def url(engine: StubEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An endpoint that the credentials in the environment may call; the current folder is the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("LAMBDIFF_REGION", "us-east-1")
    app = App(lambda: engine)
    with FunctionUrlServer(app, Keys(KEY, SECRET), "us-east-1", concurrency=4) as function:
        monkeypatch.setenv("LAMBDIFF_URL", function.url)
        yield function.url
