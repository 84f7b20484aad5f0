"""Mapping replies to exceptions with a fix (client/error_mapping.py)."""

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
    """Return a reply with headers given as keyword arguments."""
    return HttpResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def problem(slug: str, detail: str = "Because.", **more: object) -> HttpResponse:
    """Return a problem document as the handler sends it."""
    document = make_problem(slug, detail, **more)
    return reply(document.status, msgspec.json.encode(document), content_type=PROBLEM_JSON)


def test_a_success_raises_nothing() -> None:
    """A 2xx reply raises no exception."""
    raise_for_problem(reply(200))


@pytest.mark.parametrize(
    ("response", "error", "exit_code"),
    [
        (
            problem("invalid-value", errors=[("width", "must be 64..512 with this model, not 8")]),
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
def test_each_status_raises_its_error(
    response: HttpResponse, error: type[errors.LambdiffError], exit_code: int
) -> None:
    """The reply's status and problem type determine the error's class and exit code, and every error has a fix."""
    with pytest.raises(error) as caught:
        raise_for_problem(response)
    assert type(caught.value) is error
    assert caught.value.exit_code == exit_code
    assert caught.value.fix


def test_invalid_fields_are_named() -> None:
    """Values that the model does not support are reported by field."""
    with pytest.raises(errors.EndpointRefused, match="`width=` is 8"):
        raise_for_problem(problem("invalid-value", errors=[("width", "is 8")]))


def test_the_headers_that_aws_repeats_are_left_out() -> None:
    """To a wrong signature, AWS answers with what it has received, the session token included."""
    text = (
        "It does not match.\n\nThe Canonical String should have been\n'GET\n/\n\nx-amz-security-token:invoker-secret'"
    )
    with pytest.raises(errors.AccessDenied, match="It does not match") as caught:
        raise_for_problem(reply(403, msgspec.json.encode({"Message": text}), content_type="application/json"))
    assert "invoker-secret" not in str(caught.value)


@pytest.mark.parametrize(("seconds", "words"), [(-600, "10 minutes ahead"), (600, "10 minutes behind")])
def test_a_wrong_clock_is_recognized(seconds: int, words: str) -> None:
    """If the local clock is ten minutes off the endpoint's, the fix for a 403 states by how much."""
    date = email.utils.formatdate(time.time() + seconds, usegmt=True)
    with pytest.raises(errors.AccessDenied) as caught:
        raise_for_problem(reply(403, b'{"message":"Signature expired"}', date=date))
    assert words in caught.value.fix


def test_an_expired_token_is_recognized() -> None:
    """An expired session is not mistaken for a missing permission."""
    with pytest.raises(errors.AccessDenied) as caught:
        raise_for_problem(reply(403, b'{"message":"The security token included in the request is expired"}'))
    assert "sign in again" in caught.value.fix


def test_the_request_id_leads_to_the_logs() -> None:
    """The fix for a failure is the command that shows the request's log."""
    with pytest.raises(errors.EndpointFailed) as caught:
        raise_for_problem(reply(500, x_amzn_requestid="id-1"))
    assert caught.value.request_id == "id-1"
    assert "--request-id id-1" in caught.value.fix


def test_an_html_page_is_not_repeated_in_the_message() -> None:
    """A proxy's HTML page is described, not printed."""
    with pytest.raises(errors.EndpointFailed, match=r"13 bytes of text/html") as caught:
        raise_for_problem(reply(502, b"<h1>oops</h1>", content_type="text/html"))
    assert "<h1>" not in str(caught.value)


HOSTILE = "\x1b]0;title\x07\x9b2J\u202e\r\n" + "x" * 100_000


@pytest.mark.parametrize("status", [400, 403, 404, 422, 500, 502])
@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({"Message": HOSTILE}, "application/json"),
        ({"message": [HOSTILE] * 100}, "application/json"),
        ({"type": HOSTILE, "title": HOSTILE, "status": 1, "detail": HOSTILE, "instance": HOSTILE}, PROBLEM_JSON),
        (
            {"type": "x", "title": "x", "status": 1, "detail": HOSTILE,
             "errors": [{"field": HOSTILE, "detail": HOSTILE}] * 20},
            PROBLEM_JSON,
        ),
        ({"Message": "x" * 7_000_000}, "application/json"),
        (["x"] * 1_000_000, PROBLEM_JSON),
        ({"Message": HOSTILE}, HOSTILE),
    ],
)  # fmt: skip
def test_what_an_endpoint_says_is_safe_to_print(status: int, document: object, content_type: str) -> None:
    """Control characters in an error reply are escaped, and a message is never long."""
    headers = {"content_type": content_type, "lambdiff_request_id": HOSTILE, "x_amzn_errortype": HOSTILE}
    with pytest.raises(errors.LambdiffError) as caught:
        raise_for_problem(reply(status, msgspec.json.encode(document), **headers))
    assert all(line.isprintable() for line in str(caught.value).splitlines())
    assert len(str(caught.value).splitlines()) == 2
    assert len(caught.value.message) <= errors.MAX_TEXT + 3
    assert caught.value.request_id is None


@pytest.mark.parametrize(
    "request_id", ["x; rm -rf ~", "$(id)", "`id`", "a b", "\x1b[31m", "a" * 65, "--all", "a\nb", ""]
)
def test_a_request_id_that_is_none_is_not_repeated(request_id: str) -> None:
    """People paste the command that shows the log, so only what looks like an id becomes part of it."""
    with pytest.raises(errors.EndpointFailed) as caught:
        raise_for_problem(reply(500, lambdiff_request_id=request_id))
    assert caught.value.fix == "See `lambdiff logs`."
