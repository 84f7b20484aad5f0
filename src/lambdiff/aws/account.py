"""An AWS identity in an account and a region, and what the account allows."""

from __future__ import annotations

import datetime
import email.utils
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from lambdiff.auth import aws_session, partitions
from lambdiff.auth.aws_session import AwsSession
from lambdiff.auth.region import choose_region
from lambdiff.aws.error_mapping import NotFound, PermissionDenied, Rejected, no_credentials, translated
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import ConfigurationError, CredentialsError, DeployError, LambdiffError

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_codebuild import CodeBuildClient
    from types_boto3_ec2 import EC2Client
    from types_boto3_ecr import ECRClient
    from types_boto3_iam import IAMClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_s3 import S3Client
    from types_boto3_secretsmanager import SecretsManagerClient
    from types_boto3_ssm import SSMClient
    from types_boto3_stepfunctions import SFNClient
    from types_boto3_sts import STSClient
    from types_boto3_sts.type_defs import GetCallerIdentityResponseTypeDef

MIN_UNRESERVED: Final = 100
"""Concurrent executions that Lambda keeps for functions without a reservation."""
BOOTSTRAP_STACK: Final = "CDKToolkit"
BOOTSTRAP_QUALIFIER: Final = "hnb659fds"
"""CDK's own; custom bootstraps have another one."""
MIN_BOOTSTRAP: Final = 6


@dataclass(frozen=True)
class Account:
    """An AWS identity in an account and a region.

    Attributes:
        session: signs all calls.
        id: the account id, twelve digits.
        arn: the ARN of the identity.
        region: the region and its source.
        profile: the AWS profile, or None for the default credentials.
    """

    session: AwsSession = field(repr=False)
    id: str
    arn: str
    region: Sourced[str]
    profile: str | None = None

    @overload
    def client(self, service: Literal["cloudformation"]) -> CloudFormationClient: ...
    @overload
    def client(self, service: Literal["codebuild"]) -> CodeBuildClient: ...
    @overload
    def client(self, service: Literal["ec2"]) -> EC2Client: ...
    @overload
    def client(self, service: Literal["ecr"]) -> ECRClient: ...
    @overload
    def client(self, service: Literal["iam"]) -> IAMClient: ...
    @overload
    def client(self, service: Literal["lambda"]) -> LambdaClient: ...
    @overload
    def client(self, service: Literal["logs"]) -> CloudWatchLogsClient: ...
    @overload
    def client(self, service: Literal["s3"]) -> S3Client: ...
    @overload
    def client(self, service: Literal["secretsmanager"]) -> SecretsManagerClient: ...
    @overload
    def client(self, service: Literal["ssm"]) -> SSMClient: ...
    @overload
    def client(self, service: Literal["stepfunctions"]) -> SFNClient: ...
    @overload
    def client(self, service: Literal["sts"]) -> STSClient: ...
    def client(self, service: Any) -> Any:
        """Return a boto3 client for this region. Call its methods inside `error_mapping.translated` only."""
        with translated(f"A client for {service}", "created"):
            return self.session.client(service, self.region.value)

    def environment(self) -> dict[str, str]:
        """Return environment variables with credentials and region for a child process.

        The credentials may come from any provider that boto3 knows, for example SSO.

        Raises:
            CredentialsError: there are none.
        """
        with translated("Your AWS identity"):
            found = self.session.keys()
        if found is None:
            raise no_credentials()
        frozen, _ = found
        variables = {
            "AWS_ACCESS_KEY_ID": str(frozen.access_key),
            "AWS_SECRET_ACCESS_KEY": str(frozen.secret_key),
            "AWS_REGION": self.region.value,
            "AWS_DEFAULT_REGION": self.region.value,
        }
        return {**variables, "AWS_SESSION_TOKEN": frozen.token} if frozen.token else variables

    def bootstrap_version(self, qualifier: str | None = None) -> int | None:
        """Return the version of a CDK bootstrap, or None if the account has none with this qualifier."""
        name = f"/cdk-bootstrap/{qualifier or BOOTSTRAP_QUALIFIER}/version"
        try:
            with translated("The version of the CDK bootstrap stack"):
                parameter = self.client("ssm").get_parameter(Name=name)["Parameter"]
        except NotFound:
            return None
        value = parameter["Value"]
        return int(value) if value.isdecimal() else 0

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

    def free_concurrency(self) -> int | None:
        """Return how many calls of a function without a reservation may run at once, and leave room for others.

        This is what the account has, less what is reserved, less `MIN_UNRESERVED` for everything else; half of it in
        accounts that have no more than that.

        Returns:
            None if the identity may not read the limit.
        """
        known = self.concurrency()
        if known is None:
            return None
        unreserved = known[1]
        return unreserved - MIN_UNRESERVED if unreserved > 2 * MIN_UNRESERVED else max(1, unreserved // 2)

    def server_time(self) -> datetime.datetime:
        """Return the time of AWS's clock."""
        with translated("Your AWS identity"):
            reply = self.client("sts").get_caller_identity()
        return email.utils.parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"])

    @property
    def partition(self) -> str:
        """The partition of all ARNs in this account: `aws`, or for example `aws-cn`."""
        return self.arn.split(":")[1]

    def image_repository(self, qualifier: str | None = None) -> str:
        """Return the name of the ECR repository that the CDK publishes images to."""
        return f"cdk-{qualifier or BOOTSTRAP_QUALIFIER}-container-assets-{self.id}-{self.region.value}"


def find_region(profile: str | None = None, region: str | None = None) -> Sourced[str]:
    """Return the region that `open_account` would use, without calling AWS.

    Raises:
        InvalidRequest: there is no region with the given name.
        ConfigurationError: the region is unknown or does not exist.
    """
    where = choose_region(region, profile=aws_session.choose_profile(profile))
    partitions.require_region(where)
    return where


def open_account(
    profile: str | None = None, region: str | None = None, *, deployment: Deployment | None = None
) -> Account:
    """Identify the caller to AWS.

    Args:
        profile: an AWS profile; by default as in `choose_profile`.
        region: takes precedence over all other sources; see `choose_region`.
        deployment: the saved deployment to work on.

    Raises:
        CredentialsError: there are no credentials, or AWS does not accept them.
        InvalidRequest: there is no region with the given name.
        ConfigurationError: the region is unknown or does not exist, or the account has not enabled it.
        DeployError: AWS cannot be reached.
    """
    chosen = aws_session.choose_profile(profile, deployment)
    where = choose_region(region, deployment=deployment, profile=chosen)
    partition = partitions.require_region(where)
    session = aws_session.open_session(chosen, where.value)
    try:
        identity = _identify(session, where.value)
    except CredentialsError as error:
        if partition.home == where.value or not _is_accepted(session, partition.home):
            raise
        raise ConfigurationError(
            f"The region {where} does not accept your credentials, which {partition.home} does accept: either the "
            "account has not enabled the region, or the session was issued by the global STS endpoint.",
            fix="Enable the region in the AWS console (Account, AWS Regions)"
            f"{'' if deployment else ', or choose another `region=`'}. {error.message}",
        ) from None
    except DeployError as error:
        if not partitions.is_known(where.value):
            similar = ", ".join(partitions.similar_regions(where.value))
            error.fix = f"The region {where} may not exist; regions with similar names: {similar}. {error.fix}"
        raise
    return Account(session, identity["Account"], identity["Arn"], where, chosen.value if chosen else None)


def _identify(session: AwsSession, region: str) -> GetCallerIdentityResponseTypeDef:
    with translated("Your AWS identity"):
        if session.keys() is None:
            raise no_credentials()
        identity: GetCallerIdentityResponseTypeDef = session.client("sts", region).get_caller_identity()
    return identity


def _is_accepted(session: AwsSession, region: str) -> bool:
    try:
        _identify(session, region)
    except LambdiffError:
        return False
    return True
