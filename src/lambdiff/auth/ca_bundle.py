"""Choose the certificates that connections are verified with, by one rule for AWS and for a Function URL."""

from __future__ import annotations

import functools
import os
from typing import Final

from lambdiff.config import Sourced
from lambdiff.environment import quoted
from lambdiff.errors import ConfigurationError

_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def choose_ca_bundle(configured: Sourced[str] | None = None) -> str | None:
    """Return the file or folder of trusted certificates; None for those that come with requests and botocore.

    The first that is set of: `AWS_CA_BUNDLE`; `configured`, which is `ca_bundle` in the AWS profile;
    `REQUESTS_CA_BUNDLE`; `CURL_CA_BUNDLE`; `SSL_CERT_FILE`.

    Raises:
        ConfigurationError: the file is missing or contains no certificate.
    """
    candidates = [
        _from_variable("AWS_CA_BUNDLE"),
        configured,
        *(_from_variable(name) for name in _VARIABLES),
    ]
    chosen = next((each for each in candidates if each and each.value.strip()), None)
    return _checked(chosen) if chosen else None


def _from_variable(name: str) -> Sourced[str] | None:
    return Sourced(os.environ[name], name) if name in os.environ else None


def _checked(bundle: Sourced[str]) -> str:
    path = bundle.value
    if reason := _problem(path):
        raise ConfigurationError(
            f"The CA bundle in {bundle.source} cannot be used: {reason} ({quoted(path)}).",
            fix=f"Set {bundle.source} to a file of certificates in PEM format, or remove it.",
        )
    return path


def _problem(path: str) -> str | None:
    if os.path.isdir(path):
        return None  # OpenSSL searches a folder only when it needs a certificate
    try:
        changed_at = os.stat(path).st_mtime_ns
    except OSError as error:
        return error.strerror
    return _problem_of_file(path, changed_at) if os.path.isfile(path) else "it is not a file"


@functools.lru_cache
def _problem_of_file(path: str, changed_at: int) -> str | None:
    """Load the certificates, once for each state of the file: a system's bundle takes 20 ms."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "it contains no certificate"
    except OSError as error:
        return error.strerror
    return None
