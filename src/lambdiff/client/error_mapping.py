"""From an endpoint's error reply to the error that a caller sees."""

from __future__ import annotations

import email.utils
import time
from typing import TYPE_CHECKING, Final

import msgspec

from lambdiff.errors import NOT_JSON, AccessDenied, EndpointFailed, EndpointRefused, EndpointTimeout, Throttled
from lambdiff.protocol.contract import REQUEST_ID_HEADER, Problem

if TYPE_CHECKING:
    from lambdiff.protocol.http import HttpResponse

CLOCK_TOLERANCE: Final = 300
"""Seconds that AWS lets a signature's date be off."""


def raise_for_problem(reply: HttpResponse) -> None:
    """Do nothing for a success, raise what fits for anything else.

    Raises:
        AccessDenied, Throttled, EndpointRefused: 403, 429, other 4xx and redirects.
        EndpointTimeout, EndpointFailed: 502/504 of a function that ran out of time, other 5xx.
    """
    status = reply.status
    if 200 <= status < 300:
        return
    problem = _problem(reply)
    request_id = reply.headers.get(REQUEST_ID_HEADER) or reply.headers.get("x-amzn-requestid")
    said = problem.detail if problem else _aws_message(reply)
    if status == 403:
        raise AccessDenied(
            f"The endpoint refused the signature or the permission (403): {said}",
            fix=_advice_403(reply, said),
            status=status,
            request_id=request_id,
        )
    if status == 429:
        raise Throttled(
            "The endpoint is busy (429): its concurrency is used up.",
            fix="Wait and try again, ask for fewer images at once, or raise the reserved concurrency.",
            status=status,
            request_id=request_id,
        )
    if 300 <= status < 400:
        raise EndpointRefused(
            f"The endpoint redirects ({status}), and a signature holds for one address only.",
            fix="Use the address it redirects to, if you trust it.",
            status=status,
        )
    if status < 500:
        fields = "; ".join(f"{error.field}: {error.detail}" for error in problem.errors) if problem else ""
        raise EndpointRefused(
            f"The endpoint refused the request ({status}): {fields or said}",
            fix="Change what is named; `Client.health()` tells what its model accepts."
            if problem
            else "Check that the URL is a lambdiff endpoint.",
            status=status,
            request_id=request_id,
        )
    logs = f" --request-id {request_id}" if request_id else ""
    if problem and problem.type.endswith(":timed-out"):
        raise EndpointTimeout(
            f"The function ran out of time ({status}): {said}",
            fix="Ask for fewer steps or a smaller size, or deploy with a longer time-out.",
            status=status,
            request_id=request_id,
        )
    raise EndpointFailed(
        f"The endpoint failed ({status}): {said}",
        fix=f"See `lambdiff logs{logs}`.",
        status=status,
        request_id=request_id,
    )


def _problem(reply: HttpResponse) -> Problem | None:
    if "json" not in reply.headers.get("content-type", ""):
        return None
    try:
        return msgspec.json.decode(reply.body, type=Problem)
    except NOT_JSON:
        return None


def _aws_message(reply: HttpResponse) -> str:
    """AWS's own words (`{"Message": ...}` or `{"message": ...}`); of any other body, its size and type only."""
    try:
        fields = msgspec.json.decode(reply.body, type=dict[str, object])
    except NOT_JSON:
        return f"{len(reply.body):,} bytes of {reply.headers.get('content-type', 'no stated type')}."
    message = fields.get("Message") or fields.get("message") or "no message"
    return str(message)[:500]


def _advice_403(reply: HttpResponse, said: str) -> str:
    try:
        theirs = email.utils.parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except ValueError:
        theirs = time.time()
    skew = time.time() - theirs
    if abs(skew) > CLOCK_TOLERANCE:
        direction = "ahead of" if skew > 0 else "behind"
        return f"This machine's clock is {abs(skew) / 60:.0f} minutes {direction} the endpoint's: set it."
    if "expired" in said.lower():
        return "The session token has run out: sign in again."
    return (
        "Check region, key pair and both permissions (lambda:InvokeFunctionUrl and lambda:InvokeFunction): "
        "`lambdiff doctor` tells which."
    )
