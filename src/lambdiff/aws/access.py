"""Who may call an endpoint: the invoker's access key, and what IAM allows an identity to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lambdiff.auth.credentials import parse_key_pair
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import translated
from lambdiff.errors import CredentialsError

if TYPE_CHECKING:
    from types_boto3_iam.type_defs import ContextEntryTypeDef

INVOKE_ACTIONS: Final = ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction")
"""The actions that a call to a Function URL requires; with the first alone, Lambda replies 403."""


@dataclass(frozen=True)
class AccessKey:
    """The access key in a deployment's secret, without its secret half.

    Attributes:
        id: the access key id.
        user: the IAM user that it belongs to; empty if the key no longer exists.
    """

    id: str
    user: str


def key_in_secret(account: Account, secret_arn: str) -> AccessKey:
    """Read the id and the user of the access key in a secret.

    Raises:
        CredentialsError, DeployError: the secret or the key's user cannot be read.
    """
    with translated(f"The secret {secret_arn}"):
        text = account.client("secretsmanager").get_secret_value(SecretId=secret_arn)["SecretString"]
    try:
        key_id = parse_key_pair(text).access_key_id
    except ValueError:
        raise CredentialsError(
            f"The secret {secret_arn} contains no access key.", fix="Write a new one with `lambdiff rotate`."
        ) from None
    with translated("The user of the access key"):
        used = account.client("iam").get_access_key_last_used(AccessKeyId=key_id)
    return AccessKey(key_id, used.get("UserName", ""))


def key_status(account: Account, key: AccessKey) -> str | None:
    """Return `Active` or `Inactive`, or None if the key no longer exists."""
    if not key.user:
        return None
    with translated(f"The access keys of {key.user}"):
        pairs = account.client("iam").list_access_keys(UserName=key.user)["AccessKeyMetadata"]
    return next((pair["Status"] for pair in pairs if pair["AccessKeyId"] == key.id), None)


def denied_actions(account: Account, principal: str, function_arn: str) -> Sequence[str]:
    """Return the `INVOKE_ACTIONS` that the policies of a user or role do not allow on a function.

    Args:
        account: the account of both.
        principal: the ARN of the user or role.
        function_arn: the ARN of the function.
    """
    conditions: list[ContextEntryTypeDef] = [
        {
            "ContextKeyName": "lambda:FunctionUrlAuthType",
            "ContextKeyType": "string",
            "ContextKeyValues": ["AWS_IAM"],
        },
        {
            "ContextKeyName": "lambda:InvokedViaFunctionUrl",
            "ContextKeyType": "boolean",
            "ContextKeyValues": ["true"],
        },
    ]
    with translated(f"The permissions of {principal}", "simulated"):
        reply = account.client("iam").simulate_principal_policy(
            PolicySourceArn=principal,
            ActionNames=list(INVOKE_ACTIONS),
            ResourceArns=[function_arn],
            ContextEntries=conditions,
        )
    return [each["EvalActionName"] for each in reply["EvaluationResults"] if each["EvalDecision"] != "allowed"]
