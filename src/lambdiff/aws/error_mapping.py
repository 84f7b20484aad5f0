"""Translates botocore's exceptions into lambdiff's, for all calls to AWS in this package.

`lambdiff.auth.botocore_errors` classifies them; this module chooses the error and its words.

::

    CredentialsError        no credentials, or AWS does not accept them
    └── PermissionDenied    the identity lacks a permission
    DeployError             AWS cannot be reached, or failed (5xx): the call may have taken effect
    └── Rejected            AWS refused the call (4xx): nothing has changed
        ├── NotFound        there is no such resource
        ├── Conflict        the resource is being changed by another call
        └── InvalidValue    a parameter has a value that AWS does not accept
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from lambdiff.auth import aws_session, botocore_errors, credential_errors
from lambdiff.auth.botocore_errors import SET_CLOCK, Meaning, code_and_text, meaning
from lambdiff.errors import CredentialsError, DeployError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

SIGN_IN: Final = "Sign in with `aws sso login` or `aws configure`, or pass another `profile=`."


class PermissionDenied(CredentialsError):
    """The AWS identity lacks a permission."""


class Rejected(DeployError):
    """AWS refused the call, so nothing has changed.

    Attributes:
        reason: AWS's error code and message.
    """

    def __init__(self, message: str, *, fix: str = "", reason: str = "") -> None:
        super().__init__(message, fix=fix)
        self.reason = reason


class NotFound(Rejected):
    """There is no such resource."""


class Conflict(Rejected):
    """The resource is being changed by another call."""


class InvalidValue(Rejected):
    """A parameter has a value that AWS does not accept."""


@contextlib.contextmanager
def translated(subject: str, action: str = "read") -> Iterator[None]:
    """Raise lambdiff's errors instead of botocore's in the block.

    Args:
        subject: the resource that the calls are about; the message begins with it.
        action: what could not be done to it, as a past participle.

    Raises:
        CredentialsError: there are no credentials, AWS does not accept them, or they lack a permission.
        DeployError: AWS refused, failed or did not answer.

    Example:
        >>> from botocore.exceptions import ClientError
        >>> with translated("The log group demo", "deleted"):
        ...     raise ClientError({"Error": {"Code": "ExpiredToken"}}, "DeleteLogGroup")
        Traceback (most recent call last):
            ...
        lambdiff.errors.CredentialsError: The log group demo could not be deleted. AWS says: ExpiredToken: ...
    """
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        raise translate(error, subject, action) from None
    except Exception as error:
        if not botocore_errors.is_sdk_error(error):
            raise
        raise _not_sent(error) from None


def translate(error: ClientError, subject: str, action: str) -> CredentialsError | DeployError:
    """Return the error for a call that AWS rejected or failed to complete; see `translated`."""
    code, text = code_and_text(error)
    reason = f"{code}: {text or 'no reason'}"
    message = f"{subject} could not be {action}. AWS says: {reason}"
    kind = meaning(error)
    if kind is Meaning.WRONG_CLOCK:
        return CredentialsError(message, fix=SET_CLOCK)
    if kind in (Meaning.EXPIRED, Meaning.INVALID_KEYS, Meaning.INVALID_SIGNATURE):
        return CredentialsError(message, fix=SIGN_IN)
    if kind is Meaning.DENIED:
        return PermissionDenied(
            message, fix="Ask for the permission that AWS names; docs/deploy.md lists those that lambdiff needs."
        )
    retry = "Try again; `lambdiff doctor` checks the account and the deployment."
    rejection = _REJECTIONS.get(kind)
    return rejection(message, fix=retry, reason=reason) if rejection else DeployError(message, fix=retry)


def _not_sent(error: Exception) -> CredentialsError | DeployError:
    kind = meaning(error)
    if kind is Meaning.NO_CREDENTIALS:
        return no_credentials()
    if botocore_errors.provider(error):
        return credential_errors.translate(error, "Your AWS identity")
    if kind is Meaning.UNREACHABLE:
        return DeployError(
            f"AWS cannot be reached: {botocore_errors.describe(error)}.", fix=credential_errors.check_network()
        )
    return CredentialsError(f"The call to AWS could not be made: {botocore_errors.describe(error)}.", fix=SIGN_IN)


def no_credentials() -> CredentialsError:
    """Return the error for an environment without AWS credentials."""
    return CredentialsError(f"There are no AWS credentials.{aws_session.why_no_keys()}", fix=SIGN_IN)


_REJECTIONS: Final = {
    Meaning.NOT_FOUND: NotFound,
    Meaning.CONFLICT: Conflict,
    Meaning.INVALID_VALUE: InvalidValue,
    Meaning.REJECTED: Rejected,
}
