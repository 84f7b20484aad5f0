"""What botocore's exceptions mean: the one place that knows AWS's error codes.

`auth.credentials` and `aws.error_mapping` both classify errors here, then word the message for their own callers.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from lambdiff.printable import printable

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError


SET_CLOCK: Final = (
    "Set this machine's clock, which may differ from AWS's by five minutes at most. After a suspend, the clock of a "
    "laptop or a virtual machine may be wrong for a while."
)
"""What to do if AWS says that a signature is expired or not yet current."""


class Meaning(enum.Enum):
    """The meaning of an error, as far as a caller can act on it."""

    NO_CREDENTIALS = enum.auto()
    UNREACHABLE = enum.auto()
    """AWS did not answer."""
    NOT_SENT = enum.auto()
    """The call could not be made, for example because the profile is damaged."""
    EXPIRED = enum.auto()
    """The session has expired."""
    INVALID_KEYS = enum.auto()
    INVALID_SIGNATURE = enum.auto()
    """The secret key is wrong."""
    WRONG_CLOCK = enum.auto()
    DENIED = enum.auto()
    """The identity lacks a permission."""
    NOT_FOUND = enum.auto()
    CONFLICT = enum.auto()
    """The resource is being changed by another call."""
    INVALID_VALUE = enum.auto()
    REJECTED = enum.auto()
    """AWS refused the call (4xx) for another reason: nothing has changed."""
    FAILED = enum.auto()
    """AWS failed (5xx): the call may have taken effect."""


def meaning(error: ClientError | BotoCoreError) -> Meaning:
    """Return what an exception of botocore means.

    Example:
        >>> from botocore.exceptions import ClientError
        >>> meaning(ClientError({"Error": {"Code": "ExpiredToken"}}, "GetCallerIdentity")).name
        'EXPIRED'
    """
    from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError
    from botocore.exceptions import ConnectionError as NoConnection

    if isinstance(error, ClientError):
        return _meaning_of_reply(error)
    if isinstance(error, NoCredentialsError):
        return Meaning.NO_CREDENTIALS
    return Meaning.UNREACHABLE if isinstance(error, NoConnection | HTTPClientError) else Meaning.NOT_SENT


def code_and_text(error: ClientError) -> tuple[str, str]:
    """Return AWS's error code and message, safe to print; each is empty if the reply has none."""
    details = error.response.get("Error", {})
    return printable(details.get("Code") or "", 100), printable(details.get("Message") or "", 1_000)


def _meaning_of_reply(error: ClientError) -> Meaning:
    code, text = code_and_text(error)
    # STS has no code of its own for this.
    if text.startswith(("Signature expired", "Signature not yet current")):
        return Meaning.WRONG_CLOCK
    if code in _CODES:
        return _CODES[code]
    # CloudFormation has no code of its own for a stack that does not exist.
    if code == "ValidationError" and "does not exist" in text:
        return Meaning.NOT_FOUND
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    return Meaning.REJECTED if status < 500 else Meaning.FAILED


_CODES: Final = {
    "AccessDenied": Meaning.DENIED,
    "AccessDeniedException": Meaning.DENIED,
    "ExpiredToken": Meaning.EXPIRED,
    "ExpiredTokenException": Meaning.EXPIRED,
    "ImageNotFoundException": Meaning.NOT_FOUND,
    "InvalidClientTokenId": Meaning.INVALID_KEYS,
    "InvalidParameterValueException": Meaning.INVALID_VALUE,
    "InvalidSignatureException": Meaning.INVALID_SIGNATURE,
    "NoSuchEntity": Meaning.NOT_FOUND,
    "ParameterNotFound": Meaning.NOT_FOUND,
    "RepositoryNotFoundException": Meaning.NOT_FOUND,
    "RequestExpired": Meaning.WRONG_CLOCK,
    "RequestTimeTooSkewed": Meaning.WRONG_CLOCK,
    "ResourceConflictException": Meaning.CONFLICT,
    "ResourceNotFoundException": Meaning.NOT_FOUND,
    "SignatureDoesNotMatch": Meaning.INVALID_SIGNATURE,
    "UnauthorizedOperation": Meaning.DENIED,
    "UnrecognizedClientException": Meaning.INVALID_KEYS,
    "ValidationException": Meaning.INVALID_VALUE,
}
