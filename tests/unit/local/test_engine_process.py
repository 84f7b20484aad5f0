"""The handler in a process of its own (local/engine_process.py). `tests/integration/test_forks.py` has more."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from lambdiff.errors import EndpointFailed, ModelError
from lambdiff.local.engine_process import EngineProcess
from lambdiff.protocol.headers import JSON

pytestmark = pytest.mark.slow


def test_errors_and_refusals_come_back(tmp_path: Path) -> None:
    """An error is raised with its fix, a refusal is a reply, and both leave the process as it is."""
    process = EngineProcess(tmp_path)
    with pytest.raises(ModelError, match="is not a baked model") as error:
        process.request("GET", b"", None, content_type=JSON)
    assert "lambdiff bake" in error.value.fix
    first = process._process
    assert process.request("POST", b'{"prompt": ""}', None, content_type=JSON).status == 422
    assert process.request("PUT", b"", None, content_type=JSON).status == 405
    assert process._process is first
    assert first is not None
    process.close()
    assert first.returncode == 0


def test_a_process_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the interpreter that `multiprocessing.set_executable` has chosen, or the exit code."""
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", str(tmp_path / "python"))
    with pytest.raises(EndpointFailed, match=f"can be started: .*{tmp_path / 'python'}"):
        EngineProcess(tmp_path).request("GET", b"", None, content_type=JSON)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", "/bin/false")
    with pytest.raises(EndpointFailed, match="exit code 1"):
        EngineProcess(tmp_path).request("GET", b"", None, content_type=JSON)
