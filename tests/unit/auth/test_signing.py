"""Request signatures, checked against AWS's algorithm written out step by step (auth/signing.py)."""

from __future__ import annotations

import hashlib
import hmac

import pytest
import requests
import time_machine
from botocore.credentials import ReadOnlyCredentials

from lambdiff.auth.signing import FunctionUrlAuth
from lambdiff.errors import CredentialsError

URL = "https://abc.lambda-url.eu-west-1.on.aws/"
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def signed(token: str | None = None, body: bytes = b'{"prompt":"a cat"}', **headers: str) -> requests.PreparedRequest:
    """Return a request as the client sends it."""
    auth = FunctionUrlAuth(lambda: ReadOnlyCredentials(KEY, SECRET, token), "eu-west-1")
    request = requests.Request(
        "POST", URL, data=body, headers={"Content-Type": "application/json", **headers}, auth=auth
    )
    return request.prepare()


def expected_signature(headers: str, names: str, body: bytes) -> str:
    """Compute the signature step by step as AWS documents it, without botocore."""

    def mac(key: bytes, text: str) -> bytes:
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    canonical = f"POST\n/\n\n{headers}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = "20260102/eu-west-1/lambda/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n20260102T030405Z\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = mac(mac(mac(mac(f"AWS4{SECRET}".encode(), "20260102"), "eu-west-1"), "lambda"), "aws4_request")
    return mac(key, to_sign).hex()


@time_machine.travel("2026-01-02 03:04:05 +0000", tick=False)
def test_the_signature_follows_the_documented_algorithm() -> None:
    """The signature covers service, region, date, host, content type and body."""
    headers = "content-type:application/json\nhost:abc.lambda-url.eu-west-1.on.aws\nx-amz-date:20260102T030405Z\n"
    signature = expected_signature(headers, "content-type;host;x-amz-date", b'{"prompt":"a cat"}')
    authorization = signed().headers["Authorization"]
    assert "Credential=AKIDEXAMPLE/20260102/eu-west-1/lambda/aws4_request" in authorization
    assert authorization.endswith(f"Signature={signature}")


@time_machine.travel("2026-01-02 03:04:05 +0000", tick=False)
def test_a_session_token_is_sent_and_signed() -> None:
    """The token of temporary credentials is sent in a header that the signature covers."""
    request = signed(token="session-token")
    assert request.headers["X-Amz-Security-Token"] == "session-token"
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token" in request.headers["Authorization"]


def test_stale_headers_are_replaced() -> None:
    """A signature, date or token left from an earlier attempt is not sent again."""
    stale = dict.fromkeys(("Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-SHA256"), "stale")
    request = signed(**stale)
    assert "stale" not in request.headers.values()
    assert "X-Amz-Security-Token" not in request.headers


def test_each_attempt_is_signed_again() -> None:
    """The same request gets a new signature at a later time."""
    with time_machine.travel("2026-01-02 03:04:05 +0000", tick=False):
        first = signed().headers["Authorization"]
    with time_machine.travel("2026-01-02 03:09:06 +0000", tick=False):
        assert signed().headers["Authorization"] != first


@pytest.mark.parametrize("body", [b"", '{"prompt":"ä"}'.encode()])
def test_the_signed_bytes_are_sent(body: bytes) -> None:
    """The body that is sent is the body that was signed."""
    assert (signed(body=body).body or b"") == body


@pytest.mark.parametrize("keys", [("AKID\n", "s", None), ("AKID", "s 1", None), ("AKID", "s", "given-secret\r")])
def test_keys_with_stray_characters_are_refused_without_being_shown(keys: tuple[str, str, str | None]) -> None:
    """The message mentions the stray character, but no part of the key."""
    auth = FunctionUrlAuth(lambda: ReadOnlyCredentials(*keys), "eu-west-1")
    with pytest.raises(CredentialsError, match="no key has") as caught:
        requests.Request("POST", URL, data=b"{}", auth=auth).prepare()
    assert "given-secret" not in str(caught.value)
