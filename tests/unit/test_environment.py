"""Variables and one-line settings are cleaned or refused by name, and no URL shows a password (environment.py)."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdiff import environment
from lambdiff.errors import ConfigurationError


@pytest.mark.parametrize(
    ("value", "read"),
    [("us-east-1", "us-east-1"), (" us-east-1\r\n", "us-east-1"), ("", None), (" \t\r\n", None), ("\u00a0x", "x")],
)
def test_whitespace_around_a_value_is_dropped(monkeypatch: pytest.MonkeyPatch, value: str, read: str | None) -> None:
    """A value from a file with Windows line endings works, and a blank one counts as not set."""
    monkeypatch.setenv("LAMBDIFF_REGION", value)
    assert environment.read("LAMBDIFF_REGION") == read


@pytest.mark.parametrize("value", ["a\rb", "a\x1b[2Jb", "a\x7f", "a\u200b", "a\u202eb", "a\udc80"])
def test_other_invisible_characters_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The error names the variable and does not repeat its value, which may be anything."""
    monkeypatch.setenv("LAMBDIFF_REGION", value)
    with pytest.raises(ConfigurationError, match=r"^LAMBDIFF_REGION contains") as caught:
        environment.read("LAMBDIFF_REGION")
    assert value not in str(caught.value)


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path and `~` do not depend on where a child process runs; bytes that are not text are allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value, path in {
        "state": tmp_path / "state",
        "~/state": tmp_path / "home" / "state",
        f" {tmp_path}/a b\r": tmp_path / "a b",
        f"{tmp_path}/\udce9": tmp_path / "\udce9",
    }.items():
        monkeypatch.setenv("LAMBDIFF_HOME", value)
        assert environment.read_path("LAMBDIFF_HOME") == path
    monkeypatch.setenv("LAMBDIFF_HOME", " ")
    assert environment.read_path("LAMBDIFF_HOME") is None


@pytest.mark.parametrize("value", ["~no-such-user-here/x", "a\rb", "a\x00b".replace("\x00", "\x01")])
def test_what_is_no_path_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The error names the variable."""
    monkeypatch.setenv("LAMBDIFF_HOME", value)
    with pytest.raises(ConfigurationError, match="LAMBDIFF_HOME"):
        environment.read_path("LAMBDIFF_HOME")


@pytest.mark.linux
def test_a_relative_path_in_a_deleted_folder_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is relative to a folder that is gone."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("LAMBDIFF_HOME", "state")
    with pytest.raises(ConfigurationError, match="LAMBDIFF_HOME"):
        environment.read_path("LAMBDIFF_HOME")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://abc.lambda-url.us-east-1.on.aws/", "https://abc.lambda-url.us-east-1.on.aws/"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("https://user:secret@host:8443/", "https://***@host:8443/"),
        ("https://user:sec/ret?@host/", "https://***"),
        ("https://host/?token=secret", "https://host/..."),
        ("https://host/secret/", "https://host/..."),
        ("https://host/?mail=a@secret", "https://***"),
        ("user:secret@host", "***@host"),
        ("user:secret", "user/..."),
    ],
)
def test_a_shown_url_has_no_secret(url: str, shown: str) -> None:
    """Scheme, host and port are shown, and dots stand for the rest."""
    assert environment.redacted(url) == shown


@given(
    st.sampled_from(["https://", "http://", "", "x:"]),
    st.text(string.printable, max_size=10),
    st.text(string.printable, max_size=10),
)
def test_a_password_is_never_shown(scheme: str, before: str, after: str) -> None:
    """Whatever characters are around it."""
    assert "SECRET" not in environment.redacted(f"{scheme}{before}:SECRET{after}@host/")
    assert "SECRET" not in environment.redacted(f"{scheme}host/?{before}SECRET{after}")


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "value",
    ["http://", "http://u:secret@host:99999", "http://a b", "http://[::1", "foo://x", "http://h\u00f6st", "://", "h:x",
     " ", "proxy:1\r", "http://.", f"http://{'a' * 64}"],
)  # fmt: skip
def test_a_bad_proxy_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The address of a proxy may contain a password."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"^{name} is not the address of a proxy") as caught:
        environment.check_connections()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "proxy:3128", "http://u:p@proxy:3128", "socks5h://proxy", "http://[::1]:1"])
def test_the_address_of_a_proxy_is_accepted(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """With and without a scheme, as in requests."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    environment.check_connections()


@pytest.mark.linux
def test_a_file_of_tls_keys_must_be_writable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python's `ssl` opens it for each connection; its error would be taken for a problem with the AWS identity."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    environment.check_connections()
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a reader
    for value in (tmp_path, tmp_path / "no" / "keys.log", tmp_path / "pipe"):
        monkeypatch.setenv("SSLKEYLOGFILE", str(value))
        with pytest.raises(ConfigurationError, match="SSLKEYLOGFILE names a file that cannot be written"):
            environment.check_connections()
