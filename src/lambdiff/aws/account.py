"""An AWS identity in an account and a region, and what the account allows."""

from __future__ import annotations

import datetime
import email.utils
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from lambdiff.auth import credentials
from lambdiff.auth.region import choose_region
from lambdiff.aws.error_mapping import NotFound, PermissionDenied, Rejected, no_credentials, translated
from lambdiff.config import Deployment, Sourced

if TYPE_CHECKING:
    import boto3
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_ecr import ECRClient
    from types_boto3_iam import IAMClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_secretsmanager import SecretsManagerClient
    from types_boto3_ssm import SSMClient
    from types_boto3_sts import STSClient

MIN_UNRESERVED: Final = 100
"""Concurrent executions that Lambda keeps for functions without a reservation."""
BOOTSTRAP_PARAMETER: Final = "/cdk-bootstrap/hnb659fds/version"
MIN_BOOTSTRAP: Final = 6


@dataclass(frozen=True)
class Account:
    """An AWS identity in an account and a region.

    Attributes:
        session: the boto3 session that signs all calls.
        id: the account id, twelve digits.
        arn: the ARN of the identity.
        region: the region and its source.
        profile: the AWS profile, or None for the default credentials.
    """

    session: boto3.Session = field(repr=False)
    id: str
    arn: str
    region: Sourced[str]
    profile: str | None = None

    @overload
    def client(self, service: Literal["cloudformation"]) -> CloudFormationClient: ...
    @overload
    def client(self, service: Literal["ecr"]) -> ECRClient: ...
    @overload
    def client(self, service: Literal["iam"]) -> IAMClient: ...
    @overload
    def client(self, service: Literal["lambda"]) -> LambdaClient: ...
    @overload
    def client(self, service: Literal["logs"]) -> CloudWatchLogsClient: ...
    @overload
    def client(self, service: Literal["secretsmanager"]) -> SecretsManagerClient: ...
    @overload
    def client(self, service: Literal["ssm"]) -> SSMClient: ...
    @overload
    def client(self, service: Literal["sts"]) -> STSClient: ...
    def client(self, service: Any) -> Any:
        """Return a boto3 client for this region. Call it inside `error_mapping.translated` only."""
        return self.session.client(service, region_name=self.region.value)

    def environment(self) -> dict[str, str]:
        """Return environment variables with credentials and region for a child process.

        The credentials may come from any provider that boto3 knows, for example SSO.

        Raises:
            CredentialsError: there are none.
        """
        found = self.session.get_credentials()
        if found is None:
            raise no_credentials()
        frozen = found.get_frozen_credentials()
        variables = {
            "AWS_ACCESS_KEY_ID": str(frozen.access_key),
            "AWS_SECRET_ACCESS_KEY": str(frozen.secret_key),
            "AWS_REGION": self.region.value,
            "AWS_DEFAULT_REGION": self.region.value,
        }
        return {**variables, "AWS_SESSION_TOKEN": frozen.token} if frozen.token else variables

    def bootstrap_version(self) -> int | None:
        """Return the version of the CDK bootstrap stack, or None if the account is not bootstrapped."""
        try:
            with translated("The version of the CDK bootstrap stack"):
                parameter = self.client("ssm").get_parameter(Name=BOOTSTRAP_PARAMETER)["Parameter"]
        except NotFound:
            return None
        return int(parameter["Value"])

    def concurrency(self) -> tuple[int, int] | None:
        """Return the account's (limit, unreserved) concurrent executions, or None if the identity may not read them."""
        try:
            with translated("The account's concurrency limit"):
                limit = self.client("lambda").get_account_settings()["AccountLimit"]
        except (PermissionDenied, Rejected):
            return None
        return limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"]

    def reservable(self, wanted: int | None, current: int = 0) -> int | None:
        """Return how many of the `wanted` concurrent executions can be reserved for a function.

        Args:
            wanted: as in `StackSettings.reserved_concurrency`.
            current: what the function has already reserved.

        Returns:
            `wanted`, or None if the account would keep fewer than `MIN_UNRESERVED` unreserved executions.
        """
        if not wanted:
            return wanted
        known = self.concurrency()
        if known is not None and known[1] + current - wanted < MIN_UNRESERVED:
            return None
        return wanted

    def server_time(self) -> datetime.datetime:
        """Return the time of AWS's clock."""
        with translated("Your AWS identity"):
            reply = self.client("sts").get_caller_identity()
        return email.utils.parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"])

    @property
    def principal(self) -> str:
        """The ARN of the IAM user or role; for the session of an assumed role, the ARN of the role."""
        match = re.fullmatch(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.*", self.arn)
        return f"arn:{match[1]}:iam::{match[2]}:role/{match[3]}" if match else self.arn


def open_account(
    profile: str | None = None, region: str | None = None, *, deployment: Deployment | None = None
) -> Account:
    """Identify the caller to AWS.

    Args:
        profile: an AWS profile; by default the deployment's, else the credentials that boto3 finds.
        region: takes precedence over all other sources; see `choose_region`.
        deployment: the saved deployment to work on.

    Raises:
        CredentialsError: there are no credentials, or AWS does not accept them.
        ConfigurationError: the region is unknown.
    """
    profile = profile or (deployment.profile if deployment else None)
    session = credentials.session(profile)
    where = choose_region(region, deployment=deployment, profile=profile)
    with translated("Your AWS identity"):
        identity = session.client("sts", region_name=where.value).get_caller_identity()
    return Account(session, identity["Account"], identity["Arn"], where, profile)
