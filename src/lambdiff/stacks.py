"""A deployment, read from its CloudFormation stack's outputs."""

from __future__ import annotations

from typing import Final

from lambdiff import config
from lambdiff.credentials import session
from lambdiff.errors import ConfigurationError, CredentialsError

URL_OUTPUT: Final = "LambdaUrl"
SECRET_OUTPUT: Final = "SecretArn"  # noqa: S105 (the name of an output)
ROLE_OUTPUT: Final = "InvokerRoleArn"
FUNCTION_OUTPUT: Final = "FunctionName"


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
