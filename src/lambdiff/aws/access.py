"""Who may call an endpoint: the invoker's access key, and what IAM allows an identity to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lambdiff.auth.credentials import Keys, parse_key_pair
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import PermissionDenied, Rejected, translated
from lambdiff.errors import CredentialsError

if TYPE_CHECKING:
    from types_boto3_iam.type_defs import AccessKeyMetadataTypeDef, ContextEntryTypeDef

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


@dataclass(frozen=True)
class AccessKeys:
    """The ids of access keys of one IAM user; IAM allows two each.

    Attributes:
        user: empty if it is not known.
    """

    user: str
    ids: list[str]


def read_key_pair(account: Account, secret_arn: str) -> Keys | None:
    """Read the key pair in a deployment's secret; None if the secret contains something else.

    Raises:
        CredentialsError, DeployError: the secret cannot be read.
    """
    with translated(f"The secret {secret_arn}"):
        text = account.client("secretsmanager").get_secret_value(SecretId=secret_arn)["SecretString"]
    try:
        return parse_key_pair(text)
    except ValueError:
        return None


def key_in_secret(account: Account, secret_arn: str) -> AccessKey:
    """Read the id and the user of the access key in a secret.

    Raises:
        CredentialsError, DeployError: the secret or the key's user cannot be read.
    """
    pair = read_key_pair(account, secret_arn)
    if pair is None:
        raise CredentialsError(
            f"The secret {secret_arn} contains no access key.", fix="Write a new one with `lambdiff rotate`."
        )
    return AccessKey(pair.access_key_id, _user_of(account, pair.access_key_id))


def other_keys(account: Account, key_id: str) -> AccessKeys:
    """Return the other access keys of the user that a key belongs to; none if the identity may not read them.

    Raises:
        CredentialsError, DeployError: AWS does not accept the credentials, or cannot be reached.
    """
    try:
        user = _user_of(account, key_id)
        ids = [pair["AccessKeyId"] for pair in _list_keys(account, user)] if user else []
    except (PermissionDenied, Rejected):
        user, ids = "", []
    return AccessKeys(user, [each for each in ids if each != key_id])


def key_status(account: Account, key: AccessKey) -> str | None:
    """Return `Active` or `Inactive`, or None if the key no longer exists."""
    if not key.user:
        return None
    return next((pair["Status"] for pair in _list_keys(account, key.user) if pair["AccessKeyId"] == key.id), None)


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


def _user_of(account: Account, key_id: str) -> str:
    with translated("The user of the access key"):
        return account.client("iam").get_access_key_last_used(AccessKeyId=key_id).get("UserName", "")


def _list_keys(account: Account, user: str) -> list[AccessKeyMetadataTypeDef]:
    with translated(f"The access keys of {user}"):
        return account.client("iam").list_access_keys(UserName=user)["AccessKeyMetadata"]
