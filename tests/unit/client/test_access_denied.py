"""What to do about each kind of 403 (client/access_denied.py)."""

from __future__ import annotations

import email.utils
import time

import pytest

from lambdiff.client.access_denied import advice
from lambdiff.protocol.http import HttpResponse

USER = "User: arn:aws:iam::123456789012:user/ann is not authorized to perform: lambda:InvokeFunctionUrl on resource: x"


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "Signature expired: 20261130T100000Z is now earlier than 20261130T101500Z (20261130T102000Z - 5 min.)",
            "20 minutes behind",
        ),
        (
            "Signature not yet current: 20261130T103000Z is still later than 20261130T102500Z "
            "(20261130T102000Z + 5 min.)",
            "10 minutes ahead",
        ),
        ("Signature expired", "Set this machine's clock"),
        ("Signature not yet current", "Set this machine's clock"),
        ("Request has expired", "Set this machine's clock"),
        ("X-Amz-Date is more than five minutes off this machine's time: check the clock and sign again.", "clock"),
        ("The security token included in the request is expired", "sign in again"),
        ("The security token included in the request is invalid.", "AWS does not know this key"),
        ("The access key is unknown.", "AWS does not know this key"),
        ("The session token (X-Amz-Security-Token) is missing.", "without its session token"),
        (
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
            "The secret key does not belong",
        ),
        ("The signature does not match: the secret key, or something that was signed, is different.", "The secret key"),
        ("Credential should be scoped to a valid region. ", "pass `region=`"),
        ("Credential should be scoped to correct service: 'lambda'. ", "pass `region=`"),
        ("The request is signed for another region than us-east-1.", "pass `region=`"),
        ("Missing Authentication Token", "got lost on the way"),
        ("Authorization header requires 'Signature' parameter. (...)", "got lost on the way"),
        (f"{USER} because no identity-based policy allows the lambda:InvokeFunctionUrl action", "Ask for both"),
        (f"{USER} because no resource-based policy allows the lambda:InvokeFunctionUrl action", "Ask for both"),
        (f"{USER} with an explicit deny in a service control policy", "organization"),
        (f"{USER} because no service control policy allows the lambda:InvokeFunctionUrl action", "organization"),
        (f"{USER} with an explicit deny in a resource control policy", "organization"),
        (f"{USER} with an explicit deny in an identity-based policy", "denies this call explicitly"),
        (f"{USER} because no permissions boundary allows the lambda:InvokeFunctionUrl action", "limits this identity"),
        (f"{USER} because no session policy allows the lambda:InvokeFunctionUrl action", "limits this identity"),
        ("Forbidden", "both permissions"),
        (
            "Forbidden. For troubleshooting Function URL authorization issues, see: "
            "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html",
            "both permissions",
        ),
        ("", "both permissions"),
    ],
)
def test_each_reason_has_its_own_advice(message: str, words: str, dated: bool) -> None:
    """AWS's texts are told apart, with and without a date in the reply."""
    headers = {"date": email.utils.formatdate(usegmt=True)} if dated else {}
    assert words in advice(HttpResponse(403, headers, b""), message)


@pytest.mark.parametrize(
    ("error_type", "words"),
    [
        ("ExpiredTokenException", "sign in again"),
        ("UnrecognizedClientException:http://internal.amazon.com/coral/com.amazon.coral.service/", "does not know"),
        ("InvalidSignatureException", "The secret key does not belong"),
        ("MissingAuthenticationTokenException", "got lost on the way"),
        ("IncompleteSignatureException", "got lost on the way"),
        ("RequestExpired", "clock"),
        ("AccessDeniedException", "both permissions"),
    ],
)
def test_the_error_type_counts_too(error_type: str, words: str) -> None:
    """Without a message, AWS's error type decides."""
    assert words in advice(HttpResponse(403, {"x-amzn-errortype": error_type}, b""), "no message")


def test_a_page_is_not_the_reply_of_a_function_url() -> None:
    """An HTML page comes from a proxy or a firewall."""
    assert "firewall" in advice(HttpResponse(403, {"content-type": "text/html; charset=utf-8"}, b""), "918 bytes")


@pytest.mark.parametrize(
    "date",
    ["", "x", "\x1b", "Mon, 01 Jan 99999 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 -0000", "0 Jan 0 0:0:0 +9999999999",
     "Mon, 01 Jan 2026 00:00:00 +2359999", "1" * 5_000, "Mon, 99 Foo 2026 99:99:99 GMT"],
)  # fmt: skip
def test_an_impossible_date_is_ignored(date: str) -> None:
    """Whatever stands in the Date header, there is advice."""
    assert advice(HttpResponse(403, {"date": date}, b""), "Forbidden")


@pytest.mark.parametrize(("seconds", "words"), [(-600, "10 minutes ahead"), (600, "10 minutes behind")])
def test_the_date_of_any_403_shows_a_wrong_clock(seconds: int, words: str) -> None:
    """A date that is far off explains a 403 whose text does not."""
    date = email.utils.formatdate(time.time() + seconds, usegmt=True)
    assert words in advice(HttpResponse(403, {"date": date}, b""), "Forbidden")
