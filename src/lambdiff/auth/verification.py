"""Verify the Signature Version 4 of a received request, as an IAM-protected Function URL does.

botocore's own signer signs the received request again, and the signatures are compared. The rules:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-signing-elements.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import ReadOnlyCredentials

from lambdiff.auth.credentials import Keys

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICE: Final = "lambda"
MAX_AGE: Final = timedelta(minutes=5)


class SignatureRefused(Exception):
    """The signature is missing or wrong; the message says why and contains no secret."""


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it was received.

    Attributes:
        target: path and query, still encoded.
        headers: the name and value of each, in any case and order; names may be repeated.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(default=b"", repr=False)

    def values(self, name: str) -> list[str]:
        """Return the values of all headers with this name, which must be in lower case."""
        return [value for each, value in self.headers if each.lower() == name]


@dataclass(frozen=True)
class Authorization:
    """The parts of an Authorization header."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


class Verifier:
    """Accepts requests that one key pair has signed for one region and service.

    Args:
        keys: the key pair; if it has a session token, every request must send and sign it.
        region: the region of the signature's scope.
        service: the service of the signature's scope.
        clock: returns the current time.

    Example:
        >>> verifier = Verifier(Keys("AKIDEXAMPLE", "secret"), "us-east-1")
        >>> verifier.verify(ReceivedRequest("POST", "/", ()))
        Traceback (most recent call last):
        ...
        lambdiff.auth.verification.SignatureRefused: The request is not signed: it has no Authorization header.
    """

    def __init__(
        self,
        keys: Keys,
        region: str,
        service: str = SERVICE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._region = region
        self._service = service
        self._clock = clock

    def verify(self, request: ReceivedRequest) -> None:
        """Check that the request is signed correctly.

        Raises:
            SignatureRefused: it is not.
        """
        authorization = self.verify_headers(request)
        _check_body_hash(request)
        signed_headers, timestamp = authorization.signed_headers, request.values("x-amz-date")[0]
        _, _, signature = self.signature(request, signed_headers, timestamp)
        if not _same(signature, authorization.signature):
            _refuse("The signature does not match: the secret key, or something that was signed, is different.")

    def verify_headers(self, request: ReceivedRequest) -> Authorization:
        """Check everything but the signature itself: key, scope, date, signed headers, token. Needs no body.

        Raises:
            SignatureRefused: the request would be refused whatever its body.
        """
        authorization = _authorization(request)
        self._check_scope(authorization)
        self._check_date(request, authorization)
        _check_signed_headers(request, authorization.signed_headers)
        self._check_token(request)
        return authorization

    def signature(
        self, request: ReceivedRequest, signed_headers: Iterable[str], timestamp: str
    ) -> tuple[str, str, str]:
        """Return the canonical request, the string to sign, and this key pair's signature."""
        signed = set(signed_headers)
        received = AWSRequest(request.method, f"http://received{request.target}", data=request.body)
        received.headers = HTTPHeaders()
        for name, value in request.headers:
            if name.lower() in signed:
                received.headers[name.lower()] = value
        received.context["timestamp"] = timestamp
        signer = _Signer(ReadOnlyCredentials(*self._keys), self._service, self._region)
        canonical_request = signer.canonical_request(received)
        string_to_sign = signer.string_to_sign(received, canonical_request)
        return canonical_request, string_to_sign, signer.signature(string_to_sign, received)

    def _check_scope(self, authorization: Authorization) -> None:
        if not _same(authorization.access_key, self._keys.access_key_id):
            _refuse("The access key is unknown.")
        if authorization.region != self._region:
            _refuse(f"The request is signed for another region than {self._region}.")
        if authorization.service != self._service:
            _refuse(f"The request is signed for another service than {self._service}.")

    def _check_date(self, request: ReceivedRequest, authorization: Authorization) -> None:
        timestamp = _one(request, "x-amz-date")
        try:
            signed_at = datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            _refuse("X-Amz-Date is not a date of the form 20261231T235959Z.")
        if authorization.date != timestamp[:8]:
            _refuse("The date in the credential scope differs from X-Amz-Date.")
        if abs(self._clock() - signed_at) > MAX_AGE:
            _refuse("X-Amz-Date is more than five minutes off this machine's time: check the clock and sign again.")

    def _check_token(self, request: ReceivedRequest) -> None:
        tokens = request.values("x-amz-security-token")
        expected = self._keys.session_token
        if not expected:
            if tokens:
                _refuse("The request has a session token, but the key pair has none.")
        elif not tokens:
            _refuse("The session token (X-Amz-Security-Token) is missing.")
        elif len(tokens) > 1 or not _same(tokens[0], expected):
            _refuse("The session token does not belong to the key pair.")


class _Signer(SigV4Auth):
    """botocore's signer, except that it signs exactly the headers that the request lists as signed."""

    def headers_to_sign(self, request: Any) -> Any:
        """Return the listed headers; botocore would omit some of them."""
        return request.headers


_PARTS: Final = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^\s,=]+)\s*", re.ASCII)


def _authorization(request: ReceivedRequest) -> Authorization:
    if re.search(r"[?&]X-Amz-(Algorithm|Credential|Signature)=", request.target, re.IGNORECASE):
        _refuse("The request is signed in its query string; use an Authorization header.")
    values = request.values("authorization")
    if not values:
        _refuse("The request is not signed: it has no Authorization header.")
    if len(values) > 1 or values[0].count(ALGORITHM) > 1:
        _refuse("The request has more than one Authorization header.")
    algorithm, _, rest = values[0].partition(" ")
    if algorithm != ALGORITHM:
        _refuse(f"The Authorization header does not start with {ALGORITHM}.")
    matches = [_PARTS.fullmatch(part) for part in rest.split(",")]
    parts = {match[1]: match[2] for match in matches if match}
    if len(matches) != 3 or len(parts) != 3:
        _refuse("The Authorization header must consist of Credential, SignedHeaders and Signature.")
    scope = parts["Credential"].rsplit("/", 4)
    if len(scope) != 5 or scope[4] != "aws4_request":
        _refuse("The credential is not of the form KEY/DATE/REGION/SERVICE/aws4_request.")
    access_key, date, region, service, _ = scope
    return Authorization(
        access_key, date, region, service, tuple(parts["SignedHeaders"].split(";")), parts["Signature"]
    )


def _check_signed_headers(request: ReceivedRequest, signed: tuple[str, ...]) -> None:
    if list(signed) != sorted(set(signed)) or any(name != name.lower() for name in signed):
        _refuse("SignedHeaders must be a sorted list of unique names in lower case.")
    present = {name.lower() for name, _ in request.headers}
    for name in signed:
        if name not in present:
            _refuse(f"The header {name[:60]} is signed but was not sent.")
    for name in sorted({"host", "x-amz-date"} | {name for name in present if name.startswith("x-amz-")}):
        if name not in signed:
            _refuse(f"The header {name[:60]} must be signed.")
    _one(request, "host")


def _check_body_hash(request: ReceivedRequest) -> None:
    hashes = request.values("x-amz-content-sha256")
    if hashes and hashes != [hashlib.sha256(request.body).hexdigest()]:
        _refuse("X-Amz-Content-Sha256 is not the hash of the body; unsigned and streamed bodies are not accepted.")


def _one(request: ReceivedRequest, name: str) -> str:
    values = request.values(name)
    if len(values) != 1:
        _refuse(f"The header {name} must occur once, not {len(values)} times.")
    return values[0]


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _refuse(reason: str) -> NoReturn:
    raise SignatureRefused(reason)
