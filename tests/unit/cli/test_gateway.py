"""`lambdiff gateway` on the command line; `tests/integration/test_gateway.py` runs it as a process."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

from lambdiff.cli import cli
from lambdiff.cli.gateway import _listen
from lambdiff.errors import MissingExtra, OutputError


def test_replies_are_sent_at_once() -> None:
    """Without this option, which connections inherit, each reply would wait for an acknowledgement."""
    with _listen("127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_taken_port_is_named() -> None:
    """Two gateways cannot have one port."""
    with _listen("127.0.0.1", 0) as listener, pytest.raises(OutputError, match="cannot listen on 127"):
        _listen("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "add --api-key KEY"),  # noqa: S104
        (["--api-key", "short"], "at least 8"),
        (["--ui", "--api-key", "long-enough-key"], "The page cannot send a key"),
        (["--folder", "."], "--folder needs --ui"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: list[str], message: str) -> None:
    """Each is a usage error that names what to do."""
    result = CliRunner().invoke(cli, ["gateway", "--local", "--port", "0", *arguments])
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(("arguments", "extra"), [(["gateway"], "gateway"), (["ui"], "gateway"), (["mcp"], "gateway")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, arguments: list[str], extra: str) -> None:
    """Without the libraries, the command says how to install them."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = CliRunner().invoke(cli, arguments).exception
    assert isinstance(error, MissingExtra)
    assert error.extra == extra
