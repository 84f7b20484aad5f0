"""Verification of signatures, tested with botocore and AWS's published test cases (auth/verification.py)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import time_machine
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdiff.auth.credentials import Keys
from lambdiff.auth.verification import ReceivedRequest, SignatureRefused, Verifier

# AWS's own example keys: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-test-suite.html
KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TEMPORARY = Keys(*KEYS[:2], "to/ken+with=signs")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BODY = b'{"prompt":"a cat"}'


def signed(
    method: str = "POST",
    target: str = "/",
    body: bytes = BODY,
    keys: Keys = KEYS,
    region: str = "eu-west-1",
    service: str = "lambda",
    at: datetime = NOW,
    **headers: str,
) -> ReceivedRequest:
    """Return a request signed by botocore, as the server receives it."""
    request = AWSRequest(method, f"http://127.0.0.1:9000{target}", data=body, headers=headers)
    with time_machine.travel(at, tick=False):
        SigV4Auth(ReadOnlyCredentials(*keys), service, region).add_auth(request)
    return ReceivedRequest(
        method, target, (("Host", "127.0.0.1:9000"), ("User-Agent", "x"), *request.headers.items()), body
    )


def verifier(keys: Keys = KEYS, now: datetime = NOW) -> Verifier:
    """Return a verifier whose clock stands still."""
    return Verifier(keys, "eu-west-1", clock=lambda: now)


def changed(request: ReceivedRequest, **headers: str | None) -> ReceivedRequest:
    """Return the request with headers replaced, added or removed (None) after signing."""
    names = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    kept = [(name, value) for name, value in request.headers if name.lower() not in names]
    added = [(name, value) for name, value in names.items() if value is not None]
    return ReceivedRequest(request.method, request.target, (*kept, *added), request.body)


def resigned(request: ReceivedRequest, drop: tuple[str, ...] = (), add: tuple[str, ...] = ()) -> ReceivedRequest:
    """Return the request with another list of signed headers and a correct signature for them."""
    authorization = request.values("authorization")[0]
    names = re.search("SignedHeaders=([^,]+)", authorization)[1].split(";")  # type: ignore[index]
    names = sorted({*names, *add} - {*drop})
    signature = verifier().signature(request, names, request.values("x-amz-date")[0])[2]
    authorization = re.sub("SignedHeaders=[^,]+", f"SignedHeaders={';'.join(names)}", authorization)
    return changed(request, authorization=re.sub("Signature=.*", f"Signature={signature}", authorization))


HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    path=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=4),
    query=st.lists(st.tuples(st.text("abcXYZ-_.~ /=&%+é", max_size=5), st.text("019 /=&%+é", max_size=5)), max_size=4),
    body=st.binary(max_size=200),
    headers=st.dictionaries(st.from_regex(r"\A(x-amz-meta-|x-)[a-z0-9]{1,8}\Z"), HEADER_TEXT, max_size=3),
    token=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_requests_signed_by_botocore_are_accepted_unless_changed(
    method: str,
    path: list[str],
    query: list[tuple[str, str]],
    body: bytes,
    headers: dict[str, str],
    token: bool,
) -> None:
    """Any signed method, path, query, headers and body are accepted; changing body, target or method is refused."""
    target = "/" + "/".join(quote(part, safe="") for part in path)
    if query:
        target += "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    keys = TEMPORARY if token else KEYS
    request = signed(method, target, body, keys, **headers)
    verifier(keys).verify(request)
    for other in (
        ReceivedRequest(method, target, request.headers, body + b"x"),
        ReceivedRequest(method, target + ("&z=1" if query else "?z=1"), request.headers, body),
        ReceivedRequest("PATCH", target, request.headers, body),
    ):
        with pytest.raises(SignatureRefused):
            verifier(keys).verify(other)


def test_a_golden_signature() -> None:
    """The signature equals one that is computed here with AWS's documented steps, as in test_signing.py."""
    import hashlib
    import hmac

    def mac(key: bytes, text: str) -> bytes:
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    canonical = (
        "POST\n/\n\nhost:127.0.0.1:9000\nx-amz-date:20260102T030405Z\n\nhost;x-amz-date\n"
        + hashlib.sha256(BODY).hexdigest()
    )
    scope = "20260102/eu-west-1/lambda/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n20260102T030405Z\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = mac(mac(mac(mac(b"AWS4" + KEYS[1].encode(), "20260102"), "eu-west-1"), "lambda"), "aws4_request")
    headers = (("host", "127.0.0.1:9000"), ("x-amz-date", "20260102T030405Z"))
    computed = verifier().signature(
        ReceivedRequest("POST", "/", headers, BODY), ["host", "x-amz-date"], "20260102T030405Z"
    )
    assert computed == (canonical, to_sign, mac(key, to_sign).hex())


@pytest.mark.parametrize("minutes", [-4.9, 0, 4.9])
def test_clocks_may_differ_by_five_minutes(minutes: float) -> None:
    """A date up to five minutes in the past or the future is accepted."""
    verifier(now=NOW + timedelta(minutes=minutes)).verify(signed())


OTHER_SECRET = Keys(KEYS[0], "another")
REFUSALS: dict[str, tuple[Callable[[], ReceivedRequest], str]] = {
    "unsigned": (lambda: changed(signed(), authorization=None), "no Authorization header"),
    "wrong secret": (lambda: signed(keys=OTHER_SECRET), "does not match"),
    "wrong key": (lambda: signed(keys=Keys("AKIDOTHER", KEYS[1])), "access key is unknown"),
    "wrong region": (lambda: signed(region="us-east-1"), "another region than eu-west-1"),
    "wrong service": (lambda: signed(service="execute-api"), "another service than lambda"),
    "too old": (lambda: signed(at=NOW - timedelta(minutes=5, seconds=1)), "five minutes"),
    "from the future": (lambda: signed(at=NOW + timedelta(minutes=5, seconds=1)), "five minutes"),
    "another day in the scope": (
        lambda: changed(signed(), authorization=signed().values("authorization")[0].replace("20260102", "20260103")),
        "date in the credential scope",
    ),
    "date replaced": (lambda: changed(signed(), x_amz_date="20260102T030406Z"), "does not match"),
    "no date": (lambda: changed(signed(), x_amz_date=None), "x-amz-date must occur once"),
    "date is not a date": (lambda: changed(signed(), x_amz_date="yesterday"), "not a date of the form"),
    "two dates": (
        lambda: ReceivedRequest("POST", "/", (*signed().headers, ("X-AMZ-DATE", "20260102T030405Z")), BODY),
        "once, not 2",
    ),
    "two signatures": (
        lambda: ReceivedRequest("POST", "/", (*signed().headers, ("authorization", "AWS4-HMAC-SHA256 x")), BODY),
        "more than one Authorization",
    ),
    "two signatures in one header": (
        lambda: changed(signed(), authorization=", ".join(signed().values("authorization") * 2)),
        "more than one Authorization",
    ),
    "two hosts": (lambda: ReceivedRequest("POST", "/", (*signed().headers, ("HOST", "evil")), BODY), "must occur once"),
    "other host": (lambda: changed(signed(), host="evil"), "does not match"),
    "signed header missing": (
        lambda: changed(signed(**{"content-type": "application/json"}), content_type=None),
        "content-type is signed but was not sent",
    ),
    "signed header changed": (
        lambda: changed(signed(**{"content-type": "application/json"}), content_type="text/plain"),
        "does not match",
    ),
    "host not signed": (lambda: resigned(signed(), drop=("host",)), "host must be signed"),
    "date not signed": (lambda: resigned(signed(), drop=("x-amz-date",)), "x-amz-date must be signed"),
    "x-amz header not signed": (lambda: changed(signed(), x_amz_meta="1"), "x-amz-meta must be signed"),
    "names not sorted": (
        lambda: changed(
            signed(), authorization=signed().values("authorization")[0].replace("host;x-amz-date", "x-amz-date;host")
        ),
        "must be a sorted list",
    ),
    "names in capitals": (
        lambda: changed(signed(), authorization=signed().values("authorization")[0].replace("host;", "Host;")),
        "lower case",
    ),
    "names twice": (
        lambda: changed(signed(), authorization=signed().values("authorization")[0].replace("host;", "host;host;")),
        "must be a sorted list",
    ),
    "unsigned payload": (lambda: signed(**{"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}), "not the hash of the body"),
    "streamed payload": (
        lambda: signed(**{"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}),
        "not the hash of the body",
    ),
    "hash of another body": (lambda: signed(**{"x-amz-content-sha256": "0" * 64}), "not the hash of the body"),
    "body replaced": (lambda: ReceivedRequest("POST", "/", signed().headers, b"{}"), "does not match"),
    "query added": (lambda: ReceivedRequest("POST", "/?a=1", signed().headers, BODY), "does not match"),
    "signed in the query": (
        lambda: ReceivedRequest("POST", "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0", (), BODY),
        "signed in its query string",
    ),
    "unexpected token": (lambda: signed(keys=TEMPORARY), "but the key pair has none"),
    "other algorithm": (
        lambda: changed(signed(), authorization=signed().values("authorization")[0].replace("SHA256", "SHA1")),
        "does not start with",
    ),
    "basic": (lambda: changed(signed(), authorization="Basic YTpi"), "does not start with"),
    "nothing after the algorithm": (lambda: changed(signed(), authorization="AWS4-HMAC-SHA256 "), "must consist"),
    "a part twice": (
        lambda: changed(
            signed(), authorization=signed().values("authorization")[0].replace("SignedHeaders=", "Signature=")
        ),
        "must consist",
    ),
    "short credential": (
        lambda: changed(signed(), authorization=signed().values("authorization")[0].replace("/aws4_request", "")),
        "not of the form",
    ),
    "signature in capitals": (
        lambda: changed(
            signed(),
            authorization=re.sub("(?<=Signature=).*", lambda m: m[0].upper(), signed().values("authorization")[0]),
        ),
        "does not match",
    ),
    "truncated signature": (
        lambda: changed(signed(), authorization=signed().values("authorization")[0][:-1]),
        "does not match",
    ),
    "signature not ASCII": (
        lambda: changed(signed(), authorization=signed().values("authorization")[0] + "\xe9"),
        "does not match",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_wrong_signatures_are_refused(name: str) -> None:
    """Each kind of wrong signature is refused with its own message, which contains no secret."""
    make, words = REFUSALS[name]
    with pytest.raises(SignatureRefused, match=words) as caught:
        verifier().verify(make())
    assert KEYS[1] not in str(caught.value)


TOKEN_REFUSALS: dict[str, tuple[Callable[[], ReceivedRequest], str]] = {
    "missing": (signed, "session token .* is missing"),
    "another": (lambda: signed(keys=Keys(*KEYS[:2], "another")), "does not belong to the key pair"),
    "replaced": (lambda: changed(signed(keys=TEMPORARY), x_amz_security_token="x"), "does not belong to the key pair"),
    "not signed": (
        lambda: resigned(signed(keys=TEMPORARY), drop=("x-amz-security-token",)),
        "x-amz-security-token must be signed",
    ),
    "added unsigned": (lambda: changed(signed(), x_amz_security_token=TEMPORARY[2]), "must be signed"),
}


@pytest.mark.parametrize("name", TOKEN_REFUSALS)
def test_temporary_keys_need_their_token(name: str) -> None:
    """The token must be present, correct and signed."""
    make, words = TOKEN_REFUSALS[name]
    verifier(TEMPORARY).verify(signed(keys=TEMPORARY))
    with pytest.raises(SignatureRefused, match=words):
        verifier(TEMPORARY).verify(make())


def test_extra_signed_headers_and_missing_spaces_are_accepted() -> None:
    """Signatures of other signers, which cover more headers or omit spaces after commas, are accepted."""
    verifier().verify(resigned(signed(), add=("user-agent",)))
    tight = signed().values("authorization")[0].replace(", ", ",")
    verifier().verify(changed(signed(), authorization=tight))


def test_repr_shows_no_secret() -> None:
    """The `repr` of a verifier or a request contains no secret key, token or body."""
    shown = repr(signed(keys=TEMPORARY, body=b"purple elephant")) + repr(verifier(TEMPORARY)) + repr(TEMPORARY)
    assert KEYS[1] not in shown
    assert "elephant" not in shown


UNNORMALIZED = "normalize: false, which only S3 uses; the path is normalized here, as for every other service"
EXPECTED_DIFFERENCES = {
    "get-relative-relative-unnormalized": UNNORMALIZED,
    "get-relative-unnormalized": UNNORMALIZED,
    "get-slash-dot-slash-unnormalized": UNNORMALIZED,
    "get-slash-pointless-dot-unnormalized": UNNORMALIZED,
    "get-slash-unnormalized": UNNORMALIZED,
    "get-slashes-unnormalized": UNNORMALIZED,
    "get-vanilla-utf8-query": "a query with raw UTF-8, which HTTP does not allow",
    "post-sts-header-after": "omit_session_token: true; here the token must be signed",
}


@pytest.mark.sigv4_suite
def test_the_published_suite_passes(sigv4_suite: Path) -> None:
    """AWS's signed requests give the published strings and are accepted, except for EXPECTED_DIFFERENCES."""
    agreeing, differing = [], []
    for folder in sorted(path.parent for path in sigv4_suite.glob("*/context.json")):
        (agreeing if _agrees(folder) else differing).append(folder.name)
    print(f"\n{len(agreeing)} of {len(agreeing) + len(differing)} agree.")
    assert {name: EXPECTED_DIFFERENCES.get(name, "?") for name in differing} == EXPECTED_DIFFERENCES
    assert len(agreeing) >= 28


def _agrees(folder: Path) -> bool:
    context = json.loads((folder / "context.json").read_text())
    request = _published((folder / "header-signed-request.txt").read_bytes())
    authorization = request.values("authorization")[0]
    keys = Keys(
        context["credentials"]["access_key_id"],
        context["credentials"]["secret_access_key"],
        context["credentials"].get("token"),
    )
    now = datetime.fromisoformat(context["timestamp"])
    checker = Verifier(keys, context["region"], context["service"], clock=lambda: now)
    signed_headers = re.search("SignedHeaders=([^,]+)", authorization)[1].split(";")  # type: ignore[index]
    computed = checker.signature(request, signed_headers, request.values("x-amz-date")[0])
    expected = tuple(
        (folder / f"header-{name}.txt").read_text().rstrip("\n")
        for name in ("canonical-request", "string-to-sign", "signature")
    )
    try:
        checker.verify(request)
    except SignatureRefused:
        return False
    return computed == expected


def _published(text: bytes) -> ReceivedRequest:
    """Parse a request of the suite, where lines end without CR and a value may continue on the next line."""
    head, _, body = text.partition(b"\n\n")
    first, *lines = head.decode().split("\n")
    method, _, rest = first.partition(" ")
    headers: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith(" "):
            headers[-1] = (headers[-1][0], f"{headers[-1][1]} {line}")
        else:
            name, _, value = line.partition(":")
            headers.append((name, value))
    return ReceivedRequest(method, rest.removesuffix(" HTTP/1.1"), tuple(headers), body)
