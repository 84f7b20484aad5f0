"""local/inprocess.py and local/builtin.py: the handler without HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lambdiff.errors import ModelError
from lambdiff.local import builtin
from lambdiff.local.in_process import InProcessTransport
from lambdiff.protocol.headers import PROBLEM_JSON


def test_the_environment_beats_the_built_in_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAMBDIFF_MODEL_DIR names another folder."""
    assert builtin.folder().name == "builtin_model"
    monkeypatch.setenv("LAMBDIFF_MODEL_DIR", str(tmp_path))
    assert builtin.folder() == tmp_path


def test_a_missing_model_is_an_error_and_no_reply(tmp_path: Path) -> None:
    """Whoever sits at this machine can act on it; the message names the folder and the fix."""
    endpoint = InProcessTransport(tmp_path)
    assert endpoint.url == "in process"
    with pytest.raises(ModelError, match="is no baked model") as error:
        endpoint.request("POST", b'{"prompt": "a cat"}')
    assert "lambdiff bake" in error.value.fix
    endpoint.close()


def test_mistakes_in_the_request_are_replies(tmp_path: Path) -> None:
    """As from any endpoint, and before the model is looked for."""
    endpoint = InProcessTransport(tmp_path)
    reply = endpoint.request("POST", b'{"prompt": ""}')
    assert (reply.status, reply.content_type) == (422, PROBLEM_JSON)
    assert json.loads(reply.body)["errors"][0]["field"] == "prompt"
    assert endpoint.request("DELETE").status == 405
    assert endpoint.request("POST", b"x", content_type="text/plain").status == 415
