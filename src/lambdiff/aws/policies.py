"""Managed policies of IAM."""

from __future__ import annotations

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, PermissionDenied, translated
from lambdiff.errors import ConfigurationError


def check_boundary(account: Account, policy: str) -> list[str]:
    """Check that a permissions boundary exists, which IAM would otherwise notice only at the first role.

    Args:
        account: the account.
        policy: the boundary's name or ARN.

    Returns:
        A note if the identity may not read it.

    Raises:
        ConfigurationError: it does not exist, or is another account's.
        CredentialsError, DeployError: AWS does not accept the credentials, or cannot be reached.
    """
    arn = policy if policy.startswith("arn:") else f"arn:{account.partition}:iam::{account.id}:policy/{policy}"
    _, partition, _, _, owner, _ = arn.split(":", 5)
    if partition != account.partition or owner not in (account.id, "aws"):
        raise ConfigurationError(
            f"The permissions boundary {arn} is not a policy of account {account.id} ({account.partition}).",
            fix="Pass the name of one as `permissions_boundary=`.",
        )
    try:
        with translated(f"The policy {arn}"):
            account.client("iam").get_policy(PolicyArn=arn)
    except PermissionDenied:
        return [f"The permissions boundary {arn} was not checked: that needs iam:GetPolicy."]
    except NotFound:
        raise ConfigurationError(
            f"The permissions boundary {arn} does not exist.",
            fix="Check `permissions_boundary=` with `aws iam list-policies --scope Local`; the name has its path.",
        ) from None
    return []
