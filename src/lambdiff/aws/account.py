"""The AWS account that a deployment goes to: who asks, where, and what the account allows."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lambdiff.auth import credentials
from lambdiff.config import Sourced
from lambdiff.errors import ConfigurationError, CredentialsError, DeployError

if TYPE_CHECKING:
    import boto3

KEEP_UNRESERVED: Final = 100
"""Concurrent executions that Lambda keeps for functions without a reservation; it refuses to reserve these."""
BOOTSTRAP_PARAMETER: Final = "/cdk-bootstrap/hnb659fds/version"
MIN_BOOTSTRAP: Final = 6


@dataclass(frozen=True)
class Account:
    """An identity in an account and a region.

    Attributes:
        session: signs everything that is asked below.
        id: the account's twelve digits.
        arn: the caller's.
        region: with its source.
        profile: the AWS profile in use, None for the default chain.
    """

    session: boto3.Session = field(repr=False)
    id: str
    arn: str
    region: Sourced[str]
    profile: str | None = None

    def client(self, service: str) -> Any:
        """A boto3 client in this region; where it gets no answer, its calls raise a `LambdiffError`."""
        make: Any = self.session.client  # boto3-stubs know one overload per service and none for a variable
        client = make(service, region_name=self.region.value)
        client.meta.events.register("after-call-error", _unanswered)
        return client

    def environment(self) -> dict[str, str]:
        """Credentials and region for a process that we start, whatever provider they come from (SSO, say)."""
        keys = self.session.get_credentials()
        if keys is None:
            raise _nobody()
        frozen = keys.get_frozen_credentials()
        variables = {
            "AWS_ACCESS_KEY_ID": str(frozen.access_key),
            "AWS_SECRET_ACCESS_KEY": str(frozen.secret_key),
            "AWS_REGION": self.region.value,
            "AWS_DEFAULT_REGION": self.region.value,
        }
        return {**variables, "AWS_SESSION_TOKEN": frozen.token} if frozen.token else variables

    def bootstrap_version(self) -> int | None:
        """The version of CDK's bootstrap stack here, None where there is none."""
        from botocore.exceptions import ClientError

        try:
            value = self.client("ssm").get_parameter(Name=BOOTSTRAP_PARAMETER)["Parameter"]["Value"]
        except ClientError as error:
            if code(error) == "ParameterNotFound":
                return None
            raise refused(error, "The CDK bootstrap stack's version") from None
        return int(value)

    def concurrency(self) -> tuple[int, int] | None:
        """(limit, unreserved) concurrent executions of the account; None if the caller may not know."""
        from botocore.exceptions import ClientError

        try:
            limit = self.client("lambda").get_account_settings()["AccountLimit"]
        except ClientError:
            return None
        return limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"]

    def reservation(self, wanted: int | None, already: int = 0) -> int | None:
        """What can be reserved of `wanted` (see `StackSettings.reserved_concurrency`), given what this function has.

        Returns:
            `wanted`, or None where the account would be left with fewer than 100 unreserved executions.
        """
        if not wanted:
            return wanted
        known = self.concurrency()
        if known is not None and known[1] + already - wanted < KEEP_UNRESERVED:
            return None
        return wanted

    @property
    def principal(self) -> str:
        """The caller's IAM identity: an assumed role's session becomes the role."""
        match = re.fullmatch(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.*", self.arn)
        return f"arn:{match[1]}:iam::{match[2]}:role/{match[3]}" if match else self.arn


def open_account(profile: str | None = None, region: str | None = None, source: str = "--region") -> Account:
    """Find out who asks, and where.

    Args:
        profile: an AWS profile.
        region: used before any other that is known.
        source: where that region comes from.

    Raises:
        CredentialsError: nobody, or credentials that AWS does not take.
        ConfigurationError: no region.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    session = credentials.session(profile)
    where = Sourced(region, source) if region else _region(session)
    try:
        identity = session.client("sts", region_name=where.value).get_caller_identity()
    except NoCredentialsError:
        raise _nobody() from None
    except ClientError as error:
        raise refused(error, "Your AWS identity") from None
    except BotoCoreError as error:
        raise CredentialsError(
            f"Your AWS identity cannot be established: {error}", fix="Check the network, or sign in again."
        ) from None
    return Account(session, identity["Account"], identity["Arn"], where, profile)


def _unanswered(exception: Exception, **_: Any) -> None:
    """botocore's event for a call without an answer; what a handler raises takes the place of its exception."""
    from botocore.exceptions import BotoCoreError, ConnectionError, HTTPClientError

    if isinstance(exception, (ConnectionError, HTTPClientError)):
        raise DeployError(f"AWS cannot be reached: {exception}", fix="Check the network and try again.") from None
    if isinstance(exception, BotoCoreError):
        raise CredentialsError(
            f"AWS could not be asked: {exception}",
            fix="Sign in again: `aws sso login`, `aws configure`, or another --profile.",
        ) from None


def code(error: Exception) -> str:
    """AWS's own name for a client error."""
    response: dict[str, Any] = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def message(error: Exception) -> str:
    """AWS's own words."""
    response: dict[str, Any] = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Message", "")) or str(error)


def refused(error: Exception, subject: str, what: str = "read") -> CredentialsError | DeployError:
    """The error to raise when AWS says no: a matter of credentials, or not."""
    said = f"{subject} cannot be {what}. AWS says: {code(error)}: {message(error)}"
    if code(error) in _SIGN_IN:
        return CredentialsError(said, fix="Sign in again: `aws sso login`, `aws configure`, or another --profile.")
    if code(error) in DENIED:
        return CredentialsError(said, fix="Ask for the permission that AWS names; docs/deploy.md has the policy.")
    return DeployError(said, fix="Try again; `lambdiff doctor` looks closer.")


DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_SIGN_IN: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


def _region(session: boto3.Session) -> Sourced[str]:
    for value, source in (
        (os.environ.get("LAMBDIFF_REGION"), "LAMBDIFF_REGION"),
        (os.environ.get("AWS_REGION"), "AWS_REGION"),
        (os.environ.get("AWS_DEFAULT_REGION"), "AWS_DEFAULT_REGION"),
        (session.region_name, "AWS profile"),
    ):
        if value:
            return Sourced(value, source)
    raise ConfigurationError("The region is not known.", fix="Name it: --region us-east-1, or set AWS_REGION.")


def _nobody() -> CredentialsError:
    return CredentialsError(
        "There are no AWS credentials.", fix="Sign in first: `aws sso login`, `aws configure`, or --profile."
    )
