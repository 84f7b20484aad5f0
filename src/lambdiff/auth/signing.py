"""Sign requests with Signature Version 4, which an AWS_IAM Function URL requires.

botocore computes the signature; this module decides what is signed. Reference:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import boto3  # noqa: F401 -- looks up credentials; imported before requests are sent, see `forks`
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from requests import PreparedRequest
from requests.auth import AuthBase

from lambdiff.auth.key_format import KeyNames, check_keys

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

SERVICE: Final = "lambda"
_NAMES: Final = KeyNames("The AWS key id", "The AWS secret key", "The AWS session token")
_STALE: Final = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-SHA256", "Date")


class FunctionUrlAuth(AuthBase):
    """Signs the exact bytes that are sent, anew for each attempt.

    The signature covers host, content type, date, body hash and, for temporary credentials, the session token. Headers
    that a proxy may change (User-Agent, Accept-Encoding, Connection) are not covered.

    Args:
        credentials: called for each attempt, so that a rotated key or a renewed token takes effect at once.
        region: the function's region, which is part of the signature's scope.

    Example:
        >>> import requests
        >>> from botocore.credentials import Credentials
        >>> auth = FunctionUrlAuth(Credentials("AKIDEXAMPLE", "secret").get_frozen_credentials, "us-east-1")
        >>> requests.post(url, json={"prompt": "a cat"}, auth=auth).status_code
        200
    """

    def __init__(self, credentials: Callable[[], ReadOnlyCredentials], region: str) -> None:
        self._credentials = credentials
        self.region = region

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Sign the request, replacing any signature that it has."""
        for name in _STALE:
            request.headers.pop(name, None)
        content_type = request.headers.get("Content-Type")
        signed = AWSRequest(
            method=request.method,
            url=request.url,
            data=request.body or b"",
            headers={"Content-Type": content_type} if content_type else {},
        )
        keys = self._credentials()
        check_keys(keys.access_key, keys.secret_key, keys.token, _NAMES)
        SigV4Auth(keys, SERVICE, self.region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        return request
