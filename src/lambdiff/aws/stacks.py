"""A deployment's stack as CloudFormation knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from lambdiff import config
from lambdiff.auth.credentials import session
from lambdiff.aws import account as accounts
from lambdiff.aws.account import Account
from lambdiff.config import Deployment
from lambdiff.errors import ConfigurationError, CredentialsError, DeployError

URL_OUTPUT: Final = "LambdaUrl"
SECRET_OUTPUT: Final = "SecretArn"  # noqa: S105 (the name of an output)
ROLE_OUTPUT: Final = "InvokerRoleArn"
FUNCTION_OUTPUT: Final = "FunctionName"


@dataclass(frozen=True)
class StackState:
    """What CloudFormation says.

    Attributes:
        status: CREATE_COMPLETE, say.
        reason: why, where AWS says so.
        outputs, parameters: by name.
        changed_at: the time of the last change, ISO 8601.
    """

    name: str
    status: str
    reason: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    changed_at: str = ""

    @property
    def at_rest(self) -> bool:
        """Whether the last change has ended well."""
        return self.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")


def read(account: Account, name: str) -> StackState | None:
    """The stack with this name, None if there is none.

    Raises:
        CredentialsError, DeployError: it cannot be read.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        stack = account.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if accounts.code(error) == "ValidationError" and "does not exist" in accounts.message(error):
            return None
        raise accounts.refused(error, f"The stack {name}") from None
    except BotoCoreError as error:
        raise DeployError(f"The stack {name} cannot be read: {error}", fix="Check the network.") from None
    changed = stack.get("LastUpdatedTime") or stack["CreationTime"]
    return StackState(
        name=name,
        status=stack["StackStatus"],
        reason=stack.get("StackStatusReason", ""),
        outputs=_pairs(stack.get("Outputs", []), "OutputKey", "OutputValue"),
        parameters=_pairs(stack.get("Parameters", []), "ParameterKey", "ParameterValue"),
        changed_at=changed.isoformat(timespec="seconds"),
    )


def of(account: Account, deployment: Deployment) -> StackState:
    """The stack of a deployment.

    Raises:
        ConfigurationError: it has none, or it is gone.
    """
    if not deployment.stack:
        raise ConfigurationError(
            f"The deployment {deployment.name} is an endpoint that somebody else made: its stack is not known.",
            fix="Give its stack: lambdiff configure --stack NAME --region REGION.",
        )
    state = read(account, deployment.stack)
    if state is None:
        raise ConfigurationError(
            f"There is no stack {deployment.stack} in {account.region.value} of account {account.id}.",
            fix="Check --profile and --region; if it was deleted, `lambdiff deploy` makes a new one.",
        )
    return state


def outputs(stack: str, region: str | None, profile: str | None) -> tuple[dict[str, str], str]:
    """A stack's outputs by name, and the region they were found in.

    Raises:
        ConfigurationError: no region, no such stack.
        CredentialsError: no credentials, or not enough permission.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    aws = session(profile, region)
    if not aws.region_name:
        raise ConfigurationError("The region is not known.", fix="Name it: --region us-east-1.")
    try:
        found = aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        code, message = (error.response.get("Error", {}).get(part, "") for part in ("Code", "Message"))
        if code == "ValidationError":
            raise ConfigurationError(
                f"There is no stack {stack} in {aws.region_name}.", fix="Check the name and --region."
            ) from None
        raise CredentialsError(
            f"The stack {stack} cannot be read: {code}: {message}", fix="Ask for cloudformation:DescribeStacks on it."
        ) from None
    except BotoCoreError as error:
        raise CredentialsError(
            f"The stack {stack} cannot be read: {error}",
            fix="Sign in first: `aws sso login`, `aws configure`, or --profile.",
        ) from None
    return {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}, aws.region_name


def deployment(stack: str, *, name: str, region: str | None, profile: str | None) -> config.Deployment:
    """What `lambdiff configure --stack` saves.

    Raises:
        ConfigurationError: the stack is none of lambdiff's.
        CredentialsError: it cannot be read.
    """
    found, where = outputs(stack, region, profile)
    if URL_OUTPUT not in found:
        raise ConfigurationError(
            f"The stack {stack} has no output {URL_OUTPUT}: lambdiff did not make it.",
            fix="Give the endpoint's --url instead.",
        )
    secret, role = found.get(SECRET_OUTPUT), found.get(ROLE_OUTPUT)
    return config.Deployment(
        name=name,
        url=found[URL_OUTPUT],
        region=where,
        auth="key-pair" if secret else "role" if role else "caller",
        secret_arn=secret,
        role_arn=role,
        stack=stack,
        function_name=found.get(FUNCTION_OUTPUT),
        profile=profile,
    )


def _pairs(entries: list[dict[str, Any]], key: str, value: str) -> dict[str, str]:
    return {entry[key]: entry[value] for entry in entries}
