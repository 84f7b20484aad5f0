"""Signature Version 4 for `requests`: what an AWS_IAM Function URL asks of every call.

The work is botocore's; this file decides what is signed. Reference:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from requests import PreparedRequest
from requests.auth import AuthBase

from lambdiff.errors import CredentialsError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

SERVICE: Final = "lambda"
_STALE = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-SHA256", "Date")


def _fit_for_headers(keys: ReadOnlyCredentials) -> ReadOnlyCredentials:
    """Refuse keys with a stray space or line break here: further down their value would be in the error message."""
    for name, value in (("key id", keys.access_key), ("secret key", keys.secret_key), ("session token", keys.token)):
        if value and not all("!" <= character <= "~" for character in value):
            raise CredentialsError(
                f"The AWS {name} holds a space, a line break or another character that no key has.",
                fix="Set it again without what was pasted along.",
            )
    return keys


class FunctionUrlAuth(AuthBase):
    """Signs the exact bytes that are sent, afresh for each attempt.

    Host, content type, date, body hash and, for temporary credentials, the session token are signed. Headers that
    a proxy may change (User-Agent, Accept-Encoding, Connection) are sent but not signed.

    Args:
        credentials: called for each attempt, so that a rotated key or a renewed token is used at once.
        region: the function's region; it is part of the signature's scope.

    Example:
        >>> from botocore.credentials import Credentials
        >>> auth = FunctionUrlAuth(Credentials("AKIDEXAMPLE", "secret").get_frozen_credentials, "us-east-1")
        >>> requests.post(url, json={"prompt": "a cat"}, auth=auth)  # doctest: +SKIP
    """

    def __init__(self, credentials: Callable[[], ReadOnlyCredentials], region: str) -> None:
        self._credentials = credentials
        self.region = region

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Replace whatever signature the request has by a fresh one."""
        for name in _STALE:
            request.headers.pop(name, None)
        content_type = request.headers.get("Content-Type")
        signed = AWSRequest(
            method=request.method,
            url=request.url,
            data=request.body or b"",
            headers={"Content-Type": content_type} if content_type else {},
        )
        SigV4Auth(_fit_for_headers(self._credentials()), SERVICE, self.region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        return request
