"""Turn an endpoint's error reply into the exception that the caller gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from lambdiff.client import access_denied
from lambdiff.errors import (
    NOT_JSON,
    AccessDenied,
    EndpointFailed,
    EndpointRefused,
    EndpointTimeout,
    LambdiffError,
    Throttled,
)
from lambdiff.printable import printable
from lambdiff.protocol.headers import decode_request_id
from lambdiff.protocol.problems import Problem

if TYPE_CHECKING:
    from lambdiff.protocol.http import HttpResponse

MAX_DOCUMENT: Final = 256 * 1024
"""Maximum bytes of an error reply that is parsed."""
_MAX_FIELDS: Final = 10
"""Bad fields that a message lists."""


def raise_for_problem(reply: HttpResponse) -> None:
    """Raise the matching exception unless the reply is a success.

    Raises:
        AccessDenied, Throttled, EndpointRefused: 403, 429, any other 4xx or a redirect.
        EndpointTimeout, EndpointFailed: the function ran out of time, any other 5xx.
    """
    if 200 <= reply.status < 300:
        return
    problem = _problem(reply)
    detail = printable(problem.detail) if problem else _aws_message(reply)
    if reply.status < 500:
        raise _refusal(reply, problem, detail)
    raise _failure(reply, problem, detail)


def _refusal(reply: HttpResponse, problem: Problem | None, detail: str) -> LambdiffError:
    status, request_id = reply.status, decode_request_id(reply.headers)
    if status == 403:
        return AccessDenied(
            f"The endpoint refused the signature or the permission (403): {detail}",
            fix=access_denied.advice(reply, detail),
            status=status,
            request_id=request_id,
        )
    if status == 429:
        return Throttled(
            "The endpoint is busy (429): its concurrency is used up.",
            fix="Try again later, request fewer images at once, or raise the reserved concurrency.",
            status=status,
            request_id=request_id,
        )
    if status < 200:
        return EndpointRefused(
            f"The endpoint wants to use another protocol ({status}).",
            fix="Check that the URL is a lambdiff endpoint.",
            status=status,
        )
    if status < 400:
        return EndpointRefused(
            f"The endpoint redirects ({status}), but a signature is valid for one address only.",
            fix="Use the address it redirects to, if you trust it.",
            status=status,
        )
    bad = problem.errors[:_MAX_FIELDS] if problem else []
    fields = "; ".join(f"`{printable(each.field, 40)}=` {printable(each.detail, 200)}" for each in bad)
    return EndpointRefused(
        f"The endpoint refused the request ({status}): {fields or detail}",
        fix="Change these values; `Client.health()` shows what the model supports."
        if problem
        else "Check that the URL is a lambdiff endpoint.",
        status=status,
        request_id=request_id,
    )


def _failure(reply: HttpResponse, problem: Problem | None, detail: str) -> LambdiffError:
    status, request_id = reply.status, decode_request_id(reply.headers)
    if problem and problem.type.endswith(":timed-out"):
        return EndpointTimeout(
            f"The function ran out of time ({status}): {detail}",
            fix="Request fewer steps or a smaller size, or deploy with a longer timeout.",
            status=status,
            request_id=request_id,
        )
    logs = f"lambdiff logs --request-id {request_id}" if request_id else "lambdiff logs"
    return EndpointFailed(
        f"The endpoint failed ({status}): {detail}", fix=f"See `{logs}`.", status=status, request_id=request_id
    )


def _problem(reply: HttpResponse) -> Problem | None:
    if not reply.content_type.endswith("json") or len(reply.body) > MAX_DOCUMENT:
        return None
    try:
        return msgspec.json.decode(reply.body, type=Problem)
    except NOT_JSON:
        return None


def _aws_message(reply: HttpResponse) -> str:
    """AWS's own text (`{"Message": ...}` or `{"message": ...}`); for any other body, only its size and type.

    What AWS adds about a wrong signature is left out, because it repeats the headers, the session token included.
    """
    try:
        fields = msgspec.json.decode(reply.body[:MAX_DOCUMENT], type=dict[str, object])
    except NOT_JSON:
        return f"{len(reply.body):,} bytes of {printable(reply.content_type, 60) or 'unknown type'}."
    text = str(fields.get("Message") or fields.get("message") or "no message")
    return printable(text.partition("The Canonical String")[0].strip())
