"""The in-process transport (local/in_process.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lambdiff.errors import ModelError
from lambdiff.local.in_process import InProcessTransport
from lambdiff.protocol.headers import PROBLEM_JSON


def test_a_missing_model_raises(tmp_path: Path) -> None:
    """A folder without a model raises a `ModelError` whose fix names `lambdiff bake`, and gives no response."""
    transport = InProcessTransport(tmp_path)
    assert transport.url == "in process"
    with pytest.raises(ModelError, match="is not a baked model") as error:
        transport.request("POST", b'{"prompt": "a cat"}')
    assert "lambdiff bake" in error.value.fix
    assert "`model_dir=`" in error.value.fix
    transport.close()


def test_invalid_requests_get_responses(tmp_path: Path) -> None:
    """Invalid requests get the same responses as from any other transport, before the model is opened."""
    transport = InProcessTransport(tmp_path)
    response = transport.request("POST", b'{"prompt": ""}')
    assert (response.status, response.content_type) == (422, PROBLEM_JSON)
    assert json.loads(response.body)["errors"][0]["field"] == "prompt"
    assert transport.request("DELETE").status == 405
    assert transport.request("POST", b"x", content_type="text/plain").status == 415
