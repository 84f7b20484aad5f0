"""Read lambdiff's own environment variables, and check one-line settings from any source.

A value that was copied from a file or a web page often has a line break, a space or an invisible character at its end.
Whitespace around a value is dropped. Anything else that cannot be meant is refused, with an error that names the
source of the value: it would otherwise fail much later, or in a library that knows nothing about the source.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from lambdiff.errors import ConfigurationError

_MAX_SHOWN: Final = 200
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_PROXY_SCHEMES: Final = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_URL: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)?(.*@)?((?:\[[0-9A-Fa-f:.]+\]|[\w.-]{1,255})(?::\d{1,5})?)?(.*)", re.DOTALL
)
"""Scheme, user information, host with port, and the rest of a text that is probably a URL."""


def read(name: str) -> str | None:
    """Return the value of an environment variable; None if it is not set or blank.

    Raises:
        ConfigurationError: it contains a control character or bytes that are not text.

    Example:
        >>> os.environ["LAMBDIFF_REGION"] = " us-east-1\\r\\n"
        >>> read("LAMBDIFF_REGION")
        'us-east-1'
    """
    return one_line(os.environ.get(name), name)


def read_path(name: str) -> Path | None:
    """Return the absolute path in an environment variable, with `~` replaced; None if it is not set or blank.

    Raises:
        ConfigurationError: it contains a control character, or cannot be made absolute: the current folder has been
            deleted, or the user of `~name` does not exist.
    """
    value = (os.environ.get(name) or "").strip()
    if not value:
        return None
    if any(character < " " or character == "\x7f" for character in value):
        raise _unprintable(name)
    try:
        # A relative path is made absolute now, because some commands start programs in other folders.
        return Path(value).expanduser().absolute()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such user, or no home folder"
        raise ConfigurationError(
            f"{name} cannot be made an absolute path: {reason}.", fix=f"Set {name} to an absolute path."
        ) from None


def one_line(value: str | None, source: str) -> str | None:
    """Return a setting without whitespace around it; None if nothing is left.

    Args:
        value: the setting.
        source: the name of the variable or parameter, or another description of its source, for the error.

    Raises:
        ConfigurationError: it contains a control character or bytes that are not text.
    """
    stripped = (value or "").strip()
    if not stripped.isprintable():  # surrogates, which stand for undecodable bytes, are not printable either
        raise _unprintable(source)
    return stripped or None


def argument(value: str | None, name: str) -> str | None:
    """Return an argument as `one_line` does. An empty one is refused, because it would mean the default.

    Args:
        value: the argument; None if it was not passed.
        name: of the parameter, for the error.

    Raises:
        ConfigurationError: it is no text, it is empty, or `one_line` refuses it.
    """
    if not isinstance(value, str | None):
        raise ConfigurationError(f"{name} must be text, not {type(value).__name__}.")
    if value is not None and not value.strip():
        raise ConfigurationError(f"{name} is empty.", fix="Pass a value, or leave it out.")
    return one_line(value, name)


def check_connections() -> None:
    """Check the variables that connections depend on: the addresses of proxies, and the file of TLS keys.

    Raises:
        ConfigurationError: a proxy has no such address, which the message does not quote, because it may contain a
            password; or `SSLKEYLOGFILE` cannot be written to, which no connection would survive.
    """
    if key_log := os.environ.get("SSLKEYLOGFILE"):
        try:
            # Without O_NONBLOCK, opening a pipe would wait for its reader.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
            os.close(os.open(key_log, flags, 0o600))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigurationError(
                f"SSLKEYLOGFILE names a file that cannot be written: {reason} ({quoted(key_log)}).",
                fix="Correct or unset it.",
            ) from None
    for name, value in os.environ.items():
        if name.upper() in _PROXIES and value and not _is_address(value):
            raise ConfigurationError(
                f"{name} is not the address of a proxy.",
                fix=f"Set {name} to one such as http://proxy.example.org:3128.",
            )


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        valid = parts.scheme in _PROXY_SCHEMES and is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        return False
    return valid and value.isascii() and value.isprintable() and " " not in value


def is_host(host: str) -> bool:
    """Return whether a host in lower case can be looked up: ASCII labels of at most 63 characters, or an IP address.

    Example:
        >>> is_host("example.org"), is_host("::1"), is_host("a..b")
        (True, True, False)
    """
    if ":" in host:
        return re.fullmatch(r"[0-9a-f:.]+(%[a-z0-9]+)?", host) is not None
    return len(host) <= 253 and re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", host) is not None


def quoted(value: str) -> str:
    """Return a setting in quotes, for messages. A URL in the wrong place may contain a password, which is left out.

    Example:
        >>> quoted("prdo"), quoted("https://user:password@example.org")
        ("'prdo'", "'https://***@example.org'")
    """
    shown = redacted(value) if "://" in value else value
    return repr(shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}...")


def redacted(url: str) -> str:
    """Return a URL without what may be secret: user name, password, path, query and fragment.

    It works on any text, because a URL that has to be shown is often one that cannot be parsed.

    Example:
        >>> redacted("https://user:password@example.org:8443/path?token=1")
        'https://***@example.org:8443/...'
    """
    match = _URL.match(url.strip())
    assert match is not None  # noqa: S101 (every part may be empty)
    scheme, user, host, rest = match.groups("")
    if re.search(r"[/?#\\]", user):  # a password with such a character, or a query with an `@`
        return f"{scheme}***"
    return f"{scheme}{'***@' if user else ''}{host}{rest if rest in ('', '/') else '/...'}"


def _unprintable(source: str) -> ConfigurationError:
    return ConfigurationError(
        f"{source} contains a control character or another character that cannot be displayed.",
        fix="Set it again without it; it may come from a file with Windows line endings.",
    )
