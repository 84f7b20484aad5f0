"""CloudFormation stacks: reading the state of a deployment's stack, changing a parameter, deleting it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lambdiff.aws import outputs
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, translated
from lambdiff.config import Deployment
from lambdiff.errors import ConfigurationError, DeployError

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import ParameterTypeDef


@dataclass(frozen=True)
class StackState:
    """A stack as CloudFormation describes it.

    Attributes:
        status: for example `CREATE_COMPLETE`.
        reason: the reason for the status; empty if CloudFormation gives none.
        outputs, parameters: values by name; see `lambdiff.aws.outputs`.
        changed_at: the time of the last change, ISO 8601.
    """

    name: str
    status: str
    reason: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    changed_at: str = ""

    @property
    def stable(self) -> bool:
        """Whether no change is in progress and the last one left a usable stack."""
        return self.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")

    def __str__(self) -> str:
        return f"{self.status} {self.reason}".strip()


def read(account: Account, name: str) -> StackState | None:
    """Read a stack, or return None if there is no stack with this name.

    Raises:
        CredentialsError, DeployError: it cannot be read.
    """
    try:
        with translated(f"The stack {name}"):
            stack = account.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except NotFound:
        return None
    changed = stack.get("LastUpdatedTime") or stack["CreationTime"]
    return StackState(
        name=name,
        status=stack["StackStatus"],
        reason=stack.get("StackStatusReason", ""),
        outputs={each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])},
        parameters={each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])},
        changed_at=changed.isoformat(timespec="seconds"),
    )


def require(account: Account, name: str) -> StackState:
    """Read a stack that must exist.

    Raises:
        ConfigurationError: there is no stack with this name.
        CredentialsError, DeployError: it cannot be read.
    """
    state = read(account, name)
    if state is None:
        raise ConfigurationError(
            f"There is no stack {name} in {account.region.value} of account {account.id}.",
            fix="Check the name, `profile=` and `region=`; if it was deleted, `lambdiff deploy` creates a new one.",
        )
    return state


def require_for(account: Account, deployment: Deployment) -> StackState:
    """Read the stack of a deployment.

    Raises:
        ConfigurationError: the deployment was saved without a stack, or the stack no longer exists.
        CredentialsError, DeployError: it cannot be read.
    """
    if not deployment.stack:
        raise ConfigurationError(
            f"No stack is saved for deployment {deployment.name}.",
            fix="Save it with `lambdiff configure --stack NAME --region REGION`.",
        )
    return require(account, deployment.stack)


def to_deployment(stack: str, found: Mapping[str, str], *, name: str, region: str, profile: str | None) -> Deployment:
    """Return the deployment that the outputs of a stack describe.

    Args:
        stack: the name of the stack.
        found: its outputs.
        name: the name to save the deployment under.
        region: the stack's region.
        profile: the AWS profile to save with it.

    Raises:
        ConfigurationError: the stack was not created by lambdiff.
    """
    if outputs.URL not in found:
        raise ConfigurationError(
            f"The stack {stack} has no output {outputs.URL}: it was not created by lambdiff.",
            fix="Pass the endpoint's `url=` instead.",
        )
    secret, role = found.get(outputs.SECRET_ARN), found.get(outputs.INVOKER_ROLE_ARN)
    return Deployment(
        name=name,
        url=found[outputs.URL],
        region=region,
        auth="key-pair" if secret else "role" if role else "caller",
        secret_arn=secret,
        role_arn=role,
        stack=stack,
        function_name=found.get(outputs.FUNCTION_NAME),
        profile=profile,
    )


def update_parameters(account: Account, state: StackState, changes: Mapping[str, str]) -> None:
    """Change parameters of a stack, keep its template and other parameters, and wait until the update is complete.

    Raises:
        CredentialsError: a permission is missing.
        DeployError: CloudFormation refused the update or rolled it back.
    """
    from botocore.exceptions import WaiterError

    client = account.client("cloudformation")
    changed: list[ParameterTypeDef] = [
        {"ParameterKey": name, "ParameterValue": value} for name, value in changes.items()
    ]
    kept: list[ParameterTypeDef] = [
        {"ParameterKey": name, "UsePreviousValue": True} for name in state.parameters if name not in changes
    ]
    with translated(f"The stack {state.name}", "updated"):
        client.update_stack(
            StackName=state.name,
            UsePreviousTemplate=True,
            Parameters=[*changed, *kept],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        )
        try:
            client.get_waiter("stack_update_complete").wait(
                StackName=state.name, WaiterConfig={"Delay": 2, "MaxAttempts": 300}
            )
        except WaiterError:
            raise DeployError(
                f"The update of the stack {state.name} did not succeed: {require(account, state.name)}",
                fix="Fix what AWS names, then try again.",
            ) from None


def delete(account: Account, name: str) -> None:
    """Delete a stack and wait until it is gone.

    Raises:
        CredentialsError: a permission is missing.
        DeployError: CloudFormation could not delete a resource.
    """
    from botocore.exceptions import WaiterError

    client = account.client("cloudformation")
    with translated(f"The stack {name}", "deleted"):
        client.delete_stack(StackName=name)
        try:
            client.get_waiter("stack_delete_complete").wait(
                StackName=name, WaiterConfig={"Delay": 2, "MaxAttempts": 900}
            )
        except WaiterError:
            state = read(account, name)
            if state is not None:
                raise DeployError(
                    f"The stack {name} could not be deleted: {state}",
                    fix="Remove what AWS names, then run `lambdiff destroy` again.",
                ) from None
