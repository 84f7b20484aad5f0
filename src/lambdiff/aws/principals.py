"""IAM principals: which user or role the caller is, and whether those that a trust policy names exist."""

from __future__ import annotations

import re

from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, PermissionDenied, Rejected, translated
from lambdiff.errors import ConfigurationError

_NAME_ONE = "Name who may assume the role with `principals=`"


def of_caller(account: Account) -> str:
    """Return the ARN of the IAM user or role that the caller is, as a trust policy names it.

    The ARN of a session has lost the path of its role, for example `aws-reserved/sso.amazonaws.com/` for SSO, so IAM is
    asked for it.

    Raises:
        ConfigurationError: the caller is neither a user nor a role, or the role may not be read.
        CredentialsError, DeployError: AWS does not accept the credentials, or cannot be reached.
    """
    session = re.fullmatch(r"arn:[a-z-]+:sts::\d{12}:assumed-role/([^/]+)/.*", account.arn)
    if session is not None:
        try:
            return _read_role(account, session[1])
        except (PermissionDenied, Rejected) as error:
            raise ConfigurationError(
                f"Your session's ARN does not contain the path of its role, and IAM did not tell it. {error.message}",
                fix=f"{_NAME_ONE}. For you, it is the output of `aws iam get-role --role-name {session[1]} "
                "--query Role.Arn --output text`, run by somebody who may.",
            ) from None
    if re.fullmatch(r"arn:[a-z-]+:iam::\d{12}:user/.+", account.arn):
        return account.arn
    kind = "the account's root user" if account.arn.endswith(":root") else "neither an IAM user nor a role"
    raise ConfigurationError(
        f"Your identity, {account.arn}, cannot assume a role, because it is {kind}.", fix=f"{_NAME_ONE}."
    )


def check(account: Account, arns: tuple[str, ...]) -> list[str]:
    """Check that the principals of this account exist, because IAM refuses a trust policy that names others.

    Those of other accounts cannot be checked, and those of this account only with permission to read them.

    Returns:
        Notes about principals that deserve a second look.

    Raises:
        ConfigurationError: a user or role does not exist, or has another path.
        CredentialsError, DeployError: AWS does not accept the credentials, or cannot be reached.
    """
    notes = []
    for arn in arns:
        _, _, _, _, owner, resource = arn.split(":", 5)
        kind, _, path = resource.partition("/")
        if owner != account.id:
            notes.append(f"{arn} belongs to another account, {owner}.")
        elif kind == "root":
            notes.append(f"{arn} stands for every identity in the account that is allowed to assume roles.")
        else:
            _check_exists(account, arn, kind, path.rpartition("/")[2])
    return notes


def _check_exists(account: Account, arn: str, kind: str, name: str) -> None:
    try:
        found = _read_role(account, name) if kind == "role" else _read_user(account, name)
    except PermissionDenied:
        return
    except NotFound:
        raise ConfigurationError(
            f"The account {account.id} has no {kind} {name}, which `principals=` names.",
            fix=f"Check it with `aws iam list-{kind}s`.",
        ) from None
    if found != arn:
        raise ConfigurationError(
            f"There is no principal {arn}: the path of the {kind} {name} is another one.", fix=f"It is {found}."
        )


def _read_role(account: Account, name: str) -> str:
    with translated(f"The role {name}"):
        return account.client("iam").get_role(RoleName=name)["Role"]["Arn"]


def _read_user(account: Account, name: str) -> str:
    with translated(f"The user {name}"):
        return account.client("iam").get_user(UserName=name)["User"]["Arn"]
