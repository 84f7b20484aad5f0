"""Turn the exceptions of boto3 into a `CredentialsError` that names the source of the credentials."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from lambdiff.auth import aws_files, aws_session, aws_settings, botocore_errors
from lambdiff.auth.botocore_errors import Meaning
from lambdiff.errors import CredentialsError


@contextlib.contextmanager
def translated(subject: str, if_denied: str = "") -> Iterator[None]:
    """Raise the exceptions of boto3 as a `CredentialsError` whose message names the source of the problem.

    Args:
        subject: what cannot be used; the message begins with it.
        if_denied: the fix if a permission is missing.
    """
    try:
        yield
    except Exception as error:
        if not botocore_errors.is_sdk_error(error):
            raise
        raise translate(error, subject, if_denied) from None


def translate(error: Exception, subject: str, if_denied: str = "") -> CredentialsError:
    """Return the error for an exception of boto3; see `translated`."""
    kind = botocore_errors.meaning(error)
    if kind is Meaning.NO_CREDENTIALS:
        return CredentialsError(
            f"{subject} cannot be used without AWS credentials, and there are none.{aws_session.why_no_keys()}",
            fix="Sign in first: `aws sso login`, `aws configure`, or pass `profile=`.",
        )
    reason = botocore_errors.describe(error)
    failed = botocore_errors.provider(error)
    if failed is None:
        fix = if_denied if kind is Meaning.DENIED and if_denied else _ADVICE.get(kind, "Run `lambdiff doctor`.")
        return CredentialsError(f"{subject} cannot be used: {reason}.", fix=fix)
    source, fix = _describe_source(*failed)
    if kind is Meaning.UNREACHABLE:
        fix = check_network()
    return CredentialsError(f"{subject} cannot be used, because of {source}: {reason}.", fix=_ADVICE.get(kind, fix))


def check_network() -> str:
    """Return the fix if AWS cannot be reached, with the variables that lead elsewhere."""
    return f"Check {' and '.join(['the network', *aws_settings.that_redirect()])}, then try again."


def _describe_source(method: str, profile: str | None) -> tuple[str, str]:
    """A source of credentials with its variable or its profile and file, and what to do if it fails."""
    variables = [name for name in _VARIABLES.get(method, ()) if name in os.environ]
    if variables:
        return " and ".join(variables), f"Correct or unset {'it' if len(variables) == 1 else 'them'}."
    place = aws_files.describe(profile or "default", credentials_first=method == "shared-credentials-file")
    source, fix = _SOURCES.get(method, ("{place}", "Correct the profile, or pass another `profile=`."))
    return source.format(place=place), fix.format(profile=profile or "default")


_SOURCES: Final = {
    "env": ("the keys in the environment", "Set all parts of the key, or unset them."),
    "iam-role": ("the role of this instance", "Check the role, or sign in as somebody else."),
    "custom-process": (
        "credential_process of {place}", "Run the program yourself to see what it prints, or correct it."
    ),
    "sso": ("the SSO session of {place}", "Sign in again: `aws sso login --profile {profile}`."),
    "login": ("the login session of {place}", "Sign in again: `aws login --profile {profile}`."),
    "assume-role": ("role_arn of {place}", "Correct the role in the profile, or pass another `profile=`."),
    "assume-role-with-web-identity": (
        "role_arn of {place}", "Correct the role in the profile, or pass another `profile=`."
    ),
}  # fmt: skip
"""What a message calls each source of credentials, by botocore's name of it, and what to do if it fails."""
_VARIABLES: Final = {
    "assume-role-with-web-identity": ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    "container-role": (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    ),
    "env": ("AWS_CREDENTIAL_EXPIRATION",),  # botocore itself names a missing key
    "iam-role": ("AWS_EC2_METADATA_SERVICE_ENDPOINT",),
}  # fmt: skip
"""The variables that each source of credentials reads, by botocore's name of the source."""
_ADVICE: Final = {
    Meaning.NOT_FOUND: "The deployment may have been deleted, or be in another region: `lambdiff status`.",
    Meaning.EXPIRED: "Your AWS session has expired: sign in again.",
    Meaning.INVALID_KEYS: "Your AWS keys are not valid: sign in again.",
    Meaning.WRONG_CLOCK: botocore_errors.SET_CLOCK,
}
