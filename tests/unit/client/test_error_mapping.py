"""error_mapping.py: from a reply to an exception with a fix."""

from __future__ import annotations

import email.utils
import time

import msgspec
import pytest

from lambdiff import errors
from lambdiff.client.error_mapping import raise_for_problem
from lambdiff.protocol.headers import PROBLEM_JSON
from lambdiff.protocol.http import HttpResponse
from lambdiff.protocol.problems import make_problem


def reply(status: int, body: bytes = b"", **headers: str) -> HttpResponse:
    """A reply with headers given as keyword arguments."""
    return HttpResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def problem(slug: str, detail: str = "Because.", **more: object) -> HttpResponse:
    """A problem document as the handler sends it."""
    document = make_problem(slug, detail, **more)
    return reply(document.status, msgspec.json.encode(document), content_type=PROBLEM_JSON)


def test_a_success_raises_nothing() -> None:
    """2xx passes."""
    raise_for_problem(reply(200))


@pytest.mark.parametrize(
    ("response", "error", "exit_code"),
    [
        (
            problem("invalid-value", errors=[("width", "is 8; this model supports 64 to 512 pixels")]),
            errors.EndpointRefused,
            4,
        ),
        (problem("payload-too-large"), errors.EndpointRefused, 4),
        (reply(302, location="https://elsewhere/"), errors.EndpointRefused, 4),
        (reply(403, b'{"Message":"Forbidden"}'), errors.AccessDenied, 4),
        (reply(404, b"<html>", content_type="text/html"), errors.EndpointRefused, 4),
        (reply(400, b'{"Message": "\xff"}', content_type="application/json"), errors.EndpointRefused, 4),
        (reply(429), errors.Throttled, 4),
        (problem("internal-error", instance="abc"), errors.EndpointFailed, 5),
        (problem("timed-out"), errors.EndpointTimeout, 5),
        (reply(502, b'{"Message":"Internal Server Error"}'), errors.EndpointFailed, 5),
        (problem("model-unavailable"), errors.EndpointFailed, 5),
    ],
)
def test_each_status_has_its_error(response: HttpResponse, error: type[errors.LambdiffError], exit_code: int) -> None:
    """Class, exit code and a fix follow from the reply."""
    with pytest.raises(error) as caught:
        raise_for_problem(response)
    assert type(caught.value) is error
    assert caught.value.exit_code == exit_code
    assert caught.value.fix


def test_bad_fields_are_named() -> None:
    """What the model does not support is reported field by field."""
    with pytest.raises(errors.EndpointRefused, match="width: is 8"):
        raise_for_problem(problem("invalid-value", errors=[("width", "is 8")]))


@pytest.mark.parametrize(("seconds", "words"), [(-600, "10 minutes ahead"), (600, "10 minutes behind")])
def test_a_wrong_clock_is_recognised(seconds: int, words: str) -> None:
    """If the endpoint's date is ten minutes off, the fix for a 403 is to set the clock."""
    date = email.utils.formatdate(time.time() + seconds, usegmt=True)
    with pytest.raises(errors.AccessDenied) as caught:
        raise_for_problem(reply(403, b'{"message":"Signature expired"}', date=date))
    assert words in caught.value.fix


def test_an_expired_token_is_recognised() -> None:
    """An expired session is not mistaken for a missing permission."""
    with pytest.raises(errors.AccessDenied) as caught:
        raise_for_problem(reply(403, b'{"message":"The security token included in the request is expired"}'))
    assert "sign in again" in caught.value.fix


def test_the_request_id_leads_to_the_logs() -> None:
    """The fix of a failure is the command that shows its log."""
    with pytest.raises(errors.EndpointFailed) as caught:
        raise_for_problem(reply(500, x_amzn_requestid="id-1"))
    assert caught.value.request_id == "id-1"
    assert "--request-id id-1" in caught.value.fix


def test_an_html_page_is_not_repeated_in_the_message() -> None:
    """A proxy's HTML page is described, not printed."""
    with pytest.raises(errors.EndpointFailed, match=r"13 bytes of text/html") as caught:
        raise_for_problem(reply(502, b"<h1>oops</h1>", content_type="text/html"))
    assert "<h1>" not in str(caught.value)
