"""`lambdiff.generate` (client/shared.py)."""

from __future__ import annotations

import pytest

import lambdiff
from lambdiff.local import in_process
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport


def test_the_module_function_keeps_its_client(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lambdiff.generate` keeps its client, so the engine is loaded once."""
    monkeypatch.setattr(in_process, "InProcessTransport", lambda _: StubTransport(engine))
    lambdiff.generate("a cat", local=True)
    lambdiff.generate("a dog", local=True)
    assert (engine.calls, engine.loads) == (2, 1)
