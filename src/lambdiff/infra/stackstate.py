"""A deployment's stack as CloudFormation knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lambdiff.config import Deployment
from lambdiff.errors import ConfigurationError, DeployError
from lambdiff.infra import account as accounts
from lambdiff.infra.account import Account


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


def _pairs(entries: list[dict[str, Any]], key: str, value: str) -> dict[str, str]:
    return {entry[key]: entry[value] for entry in entries}
