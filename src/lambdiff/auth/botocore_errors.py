"""What the exceptions of boto3 and botocore mean: the one place that knows AWS's error codes.

`auth.credentials` and `aws.error_mapping` both classify errors here, then word the message for their own callers.

botocore raises its own exceptions for most problems, but for bad settings and bad credentials also a plain
`ValueError`, `KeyError`, `AttributeError`, `FileNotFoundError` and others; see `is_sdk_error`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from lambdiff.errors import LambdiffError
from lambdiff.printable import printable

if TYPE_CHECKING:
    from botocore.exceptions import ClientError


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


def is_sdk_error(error: Exception) -> bool:
    """Return whether an exception comes out of boto3 or botocore, and so is not a bug in lambdiff.

    Example:
        >>> is_sdk_error(ValueError("raised here"))
        False
    """
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, LambdiffError):
        return False
    if isinstance(error, BotoCoreError | ClientError):
        return True
    modules = (frame.f_globals.get("__name__", "") for frame in _frames(error))
    return any(module.partition(".")[0] in ("boto3", "botocore") for module in modules)


def meaning(error: Exception) -> Meaning:
    """Return what an exception of boto3 or botocore means.

    Example:
        >>> from botocore.exceptions import ClientError
        >>> meaning(ClientError({"Error": {"Code": "ExpiredToken"}}, "GetCallerIdentity")).name
        'EXPIRED'
    """
    from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.parsers import ResponseParserError

    if isinstance(error, ClientError):
        return _meaning_of_reply(error)
    if isinstance(error, ResponseParserError):  # from a proxy, or another server at the address of AWS
        return Meaning.UNREACHABLE
    if isinstance(error, NoCredentialsError):
        return Meaning.NO_CREDENTIALS
    # Without a subclass, it wraps an exception of another library, such as one about an invalid header.
    unreachable = isinstance(error, NoConnection | HTTPClientError) and type(error) is not HTTPClientError
    return Meaning.UNREACHABLE if unreachable else Meaning.NOT_SENT


def describe(error: Exception) -> str:
    """Return what went wrong, without a secret and without the period at the end.

    An exception that is not botocore's own is named by its type only: its text may quote a header with a signature or
    a session token.
    """
    from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, HTTPClientError

    if isinstance(error, ClientError):
        text = ": ".join(filter(None, code_and_text(error))) or "unknown error"
    elif isinstance(error, CredentialRetrievalError):
        # The text may be what a program printed.
        text = _LOOKS_LIKE_A_KEY.sub("***", str(error))
    elif isinstance(error, BotoCoreError) and type(error) is not HTTPClientError:
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = _describe_plain(error)
    text = _SECRET_IN_URL.sub(lambda found: f"{found[1]}***@" if found[1] else "?***", text)
    return printable(" ".join(text.split()), _MAX_TEXT).rstrip(".")


def _describe_plain(error: Exception) -> str:
    match type(error).__name__:
        case "JSONDecodeError":
            return "it is not JSON"
        case "ResponseParserError":
            return "the reply is not one of AWS"
        case "UnicodeDecodeError":
            return "it is not UTF-8 text"
        case "ParserError":  # dateutil's
            return "it is not a time"
        case "RuntimeError" if "expired" in str(error):
            return "the credentials have expired"
        case other:
            return f"it has an unexpected format ({other})"


def code_and_text(error: ClientError) -> tuple[str, str]:
    """Return AWS's error code and message, safe to print; each is empty if the reply has none.

    Of a message about a wrong signature only the first sentence: AWS appends the headers that it has received, and
    the session token is one of them.
    """
    details = error.response.get("Error", {})
    text = (details.get("Message") or "").partition("The Canonical String")[0].strip()
    return printable(details.get("Code") or "", 100), printable(text, 1_000)


def provider(error: Exception) -> tuple[str, str | None] | None:
    """Return the method and the profile of the credential provider that failed; None for any other error.

    The method is botocore's name for it, such as `custom-process`. botocore's exceptions seldom name the provider, so
    it is taken from the traceback.
    """
    from botocore.credentials import CredentialProvider, Credentials

    from lambdiff.auth.aws_session import AwsSession

    found, session_profile = None, None
    for frame in _frames(error):
        owner = frame.f_locals.get("self")
        if isinstance(owner, AwsSession):
            session_profile = owner.profile
        elif isinstance(owner, CredentialProvider):
            found = str(owner.METHOD), getattr(owner, "_profile_name", session_profile)
        elif isinstance(owner, Credentials) and found is None:  # they are renewed outside the provider
            found = str(owner.method), session_profile
    return found


def _frames(error: Exception) -> Iterator[Any]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


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


_MAX_TEXT: Final = 300
_LOOKS_LIKE_A_KEY: Final = re.compile(r"[A-Za-z0-9/+=_-]{20,}")
_SECRET_IN_URL: Final = re.compile(r"(\b[a-z]+://)[^\s\"']*@|\?[^\s\"']*=[^\s\"']*", re.IGNORECASE)
_CODES: Final = {
    "AccessDenied": Meaning.DENIED,
    "AccessDeniedException": Meaning.DENIED,
    "ExpiredToken": Meaning.EXPIRED,
    "ExpiredTokenException": Meaning.EXPIRED,
    "ExecutionAlreadyExists": Meaning.CONFLICT,
    "ExecutionDoesNotExist": Meaning.NOT_FOUND,
    "ImageNotFoundException": Meaning.NOT_FOUND,
    "InvalidClientTokenId": Meaning.INVALID_KEYS,
    "InvalidParameterValueException": Meaning.INVALID_VALUE,
    "InvalidSignatureException": Meaning.INVALID_SIGNATURE,
    "NoSuchBucket": Meaning.NOT_FOUND,
    "NoSuchEntity": Meaning.NOT_FOUND,
    "NoSuchKey": Meaning.NOT_FOUND,
    "ParameterNotFound": Meaning.NOT_FOUND,
    "RepositoryNotFoundException": Meaning.NOT_FOUND,
    "RequestExpired": Meaning.WRONG_CLOCK,
    "RequestTimeTooSkewed": Meaning.WRONG_CLOCK,
    "ResourceConflictException": Meaning.CONFLICT,
    "ResourceNotFound": Meaning.NOT_FOUND,
    "ResourceNotFoundException": Meaning.NOT_FOUND,
    "PreconditionFailed": Meaning.CONFLICT,
    "SignatureDoesNotMatch": Meaning.INVALID_SIGNATURE,
    "StateMachineDoesNotExist": Meaning.NOT_FOUND,
    "UnauthorizedOperation": Meaning.DENIED,
    "UnrecognizedClientException": Meaning.INVALID_KEYS,
    "ValidationException": Meaning.INVALID_VALUE,
}
