"""What to do about a 403: which of AWS's reasons it has, by its error type, its text and its date.

The texts are those of Lambda's Function URLs and of IAM
(https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html), and those of `lambdiff serve`.
"""

from __future__ import annotations

import email.utils
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lambdiff.auth.botocore_errors import SET_CLOCK

if TYPE_CHECKING:
    from lambdiff.protocol.http import HttpResponse

MAX_CLOCK_SKEW_S: Final = 300
"""Seconds by which a signature's date may differ from AWS's time."""

_CLOCK: Final = (
    r"signature expired|signature not yet current|request ?(has )?expired|requesttimetooskewed|x-amz-date is more than"
)
_TIMES: Final = re.compile(r"(\d{8}T\d{6}Z) is (?:now earlier|still later) than \d{8}T\d{6}Z \((\d{8}T\d{6}Z)")
"""The time of the signature and AWS's time, in AWS's words about an expired signature."""
_BOTH_PERMISSIONS: Final = (
    "Check the region, the credentials and both permissions (lambda:InvokeFunctionUrl and lambda:InvokeFunction); "
    "`lambdiff doctor` finds out which one is wrong."
)
_ADVICE: Final[tuple[tuple[str, str], ...]] = (
    (
        r"service control policy|resource control policy",
        "A policy of your AWS organization forbids this call: ask its administrators. Permissions in this account do "
        "not help.",
    ),
    (
        r"permissions boundary|session policy|vpc endpoint policy",
        "The policy that AWS names limits this identity, whatever it was granted: ask for a change of that policy.",
    ),
    (r"explicit deny", "A policy denies this call explicitly: ask for a change of the policy that AWS names."),
    (
        r"not authorized to perform",
        "Ask for both permissions, lambda:InvokeFunctionUrl and lambda:InvokeFunction, on this function; "
        "docs/deploy.md has the policy.",
    ),
    (
        r"token included in the request is expired|expiredtoken",
        "The session token has expired: sign in again.",
    ),
    (
        r"token included in the request is invalid|unrecognizedclient|invalidclienttokenid|access key is unknown|"
        r"session token (\(x-amz-security-token\) is missing|does not belong)|has a session token, but",
        "AWS does not know this key: it was deleted, or a temporary key is used without its session token. Sign in "
        "again, or check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN.",
    ),
    (
        r"scoped to a valid region|scoped to correct service|signed for another (region|service)",
        "The request was signed for another region than the function's: pass `region=`.",
    ),
    (
        r"signature we calculated does not match|signaturedoesnotmatch|invalidsignature|the signature does not match",
        "The secret key does not belong to the access key, or something in between, such as a proxy, changed the "
        "request.",
    ),
    (
        r"missing ?authentication ?token|incompletesignature|authorization header requires|is not signed",
        "The signature got lost on the way: check which proxy is between you and the endpoint.",
    ),
)
"""The first pattern that occurs decides, so what is specific comes before what is general."""


def advice(reply: HttpResponse, detail: str) -> str:
    """Return what to do about a 403.

    Args:
        reply: the reply.
        detail: what it says.

    Example:
        >>> from lambdiff.protocol.http import HttpResponse
        >>> advice(HttpResponse(403, {}, b""), "The security token included in the request is expired")
        'The session token has expired: sign in again.'
    """
    error_type = reply.headers.get("x-amzn-errortype", "").partition(":")[0]
    text = f"{error_type} {detail}".lower()
    skew = _skew(reply, detail)
    if abs(skew) > MAX_CLOCK_SKEW_S:
        direction = "ahead of" if skew > 0 else "behind"
        return f"Set this machine's clock: it is {abs(skew) / 60:.0f} minutes {direction} the endpoint's."
    if re.search(_CLOCK, text):
        return SET_CLOCK
    if reply.content_type == "text/html":
        return "This is not the reply of a Function URL: check the URL, and which proxy or firewall is in between."
    return next((fix for pattern, fix in _ADVICE if re.search(pattern, text)), _BOTH_PERMISSIONS)


def _skew(reply: HttpResponse, detail: str) -> float:
    """Seconds by which this machine's clock is ahead of the endpoint's, as far as the reply shows it."""
    try:
        if match := _TIMES.search(detail):
            signed, received = (
                datetime.strptime(each, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for each in match.groups()
            )
            return (signed - received).total_seconds()
        return time.time() - email.utils.parsedate_to_datetime(reply.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError, IndexError):
        return 0.0
