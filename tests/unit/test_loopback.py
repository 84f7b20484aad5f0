"""Which hosts are this machine (loopback.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lambdiff.auth.credentials import Keys
from lambdiff.client import endpoint
from lambdiff.client.client import Client
from lambdiff.errors import ConfigurationError
from lambdiff.handler.app import App
from lambdiff.local.server import FunctionUrlServer
from lambdiff.loopback import is_loopback, is_this_machine
from support.stub_engine import StubEngine

KEYS = Keys("AKIDEXAMPLE", "caller-secret")
OTHERS = ["0.0.0.0", "::", "2001:db8::1", "8.8.8.8", "224.0.0.1", "255.255.255.255", "host", "", "1"]  # noqa: S104


@pytest.mark.linux
def test_the_addresses_of_this_machine_are_recognized() -> None:
    """A server that listens on one of them can be called, without TLS as on loopback: nothing leaves the machine."""
    own = re.findall(r"\|-- ([\d.]+)\n\s+/32 host LOCAL", Path("/proc/net/fib_trie").read_text())
    assert "127.0.0.1" in own
    for address in {*own, "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST."}:
        assert is_this_machine(address)
    assert all(is_loopback(address) == address.startswith("127.") for address in own)
    for address in own:
        with FunctionUrlServer(App(StubEngine), KEYS, "us-east-1", host=address) as function:
            with Client(function.url, region="us-east-1", credentials=KEYS) as client:
                assert client.generate("a cat").size == (64, 64)


@pytest.mark.parametrize("host", OTHERS)
def test_other_hosts_are_not_this_machine(host: str) -> None:
    """Prompts are never sent to another machine without encryption."""
    assert not is_this_machine(host)
    assert not is_loopback(host)
    with pytest.raises(ConfigurationError):
        endpoint.resolve(url=f"http://{f'[{host}]' if ':' in host else host}:9/", region="us-east-1")
