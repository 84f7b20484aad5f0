"""Turn an endpoint's error reply into the exception that the caller gets."""

from __future__ import annotations

import email.utils
import time
from typing import TYPE_CHECKING, Final

import msgspec

from lambdiff.errors import (
    NOT_JSON,
    AccessDenied,
    EndpointFailed,
    EndpointRefused,
    EndpointTimeout,
    LambdiffError,
    Throttled,
)
from lambdiff.protocol.headers import REQUEST_ID_HEADER
from lambdiff.protocol.problems import Problem

if TYPE_CHECKING:
    from lambdiff.protocol.http import HttpResponse

MAX_CLOCK_SKEW_S: Final = 300
"""Seconds by which a signature's date may differ from AWS's time."""


def raise_for_problem(reply: HttpResponse) -> None:
    """Raise the matching exception unless the reply is a success.

    Raises:
        AccessDenied, Throttled, EndpointRefused: 403, 429, any other 4xx or a redirect.
        EndpointTimeout, EndpointFailed: the function ran out of time, any other 5xx.
    """
    if 200 <= reply.status < 300:
        return
    problem = _problem(reply)
    detail = problem.detail if problem else _aws_message(reply)
    if reply.status < 500:
        raise _refusal(reply, problem, detail)
    raise _failure(reply, problem, detail)


def _refusal(reply: HttpResponse, problem: Problem | None, detail: str) -> LambdiffError:
    status, request_id = reply.status, _request_id(reply)
    if status == 403:
        return AccessDenied(
            f"The endpoint refused the signature or the permission (403): {detail}",
            fix=_advice_for_403(reply, detail),
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
    if status < 400:
        return EndpointRefused(
            f"The endpoint redirects ({status}), but a signature is valid for one address only.",
            fix="Use the address it redirects to, if you trust it.",
            status=status,
        )
    fields = "; ".join(f"`{error.field}=` {error.detail}" for error in problem.errors) if problem else ""
    return EndpointRefused(
        f"The endpoint refused the request ({status}): {fields or detail}",
        fix="Change these values; `Client.health()` shows what the model supports."
        if problem
        else "Check that the URL is a lambdiff endpoint.",
        status=status,
        request_id=request_id,
    )


def _failure(reply: HttpResponse, problem: Problem | None, detail: str) -> LambdiffError:
    status, request_id = reply.status, _request_id(reply)
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


def _request_id(reply: HttpResponse) -> str | None:
    return reply.headers.get(REQUEST_ID_HEADER) or reply.headers.get("x-amzn-requestid")


def _problem(reply: HttpResponse) -> Problem | None:
    if "json" not in reply.headers.get("content-type", ""):
        return None
    try:
        return msgspec.json.decode(reply.body, type=Problem)
    except NOT_JSON:
        return None


def _aws_message(reply: HttpResponse) -> str:
    """AWS's own text (`{"Message": ...}` or `{"message": ...}`); for any other body, only its size and type."""
    try:
        fields = msgspec.json.decode(reply.body, type=dict[str, object])
    except NOT_JSON:
        return f"{len(reply.body):,} bytes of {reply.headers.get('content-type', 'unknown type')}."
    message = fields.get("Message") or fields.get("message") or "no message"
    return str(message)[:500]


def _advice_for_403(reply: HttpResponse, detail: str) -> str:
    now = time.time()
    try:
        endpoint_time = email.utils.parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except ValueError:
        endpoint_time = now
    skew = now - endpoint_time
    if abs(skew) > MAX_CLOCK_SKEW_S:
        direction = "ahead of" if skew > 0 else "behind"
        return f"Set this machine's clock: it is {abs(skew) / 60:.0f} minutes {direction} the endpoint's."
    if "expired" in detail.lower():
        return "The session token has expired: sign in again."
    return (
        "Check the region, the credentials and both permissions (lambda:InvokeFunctionUrl and lambda:InvokeFunction); "
        "`lambdiff doctor` finds out which one is wrong."
    )
