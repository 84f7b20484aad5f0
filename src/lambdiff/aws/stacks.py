"""CloudFormation stacks: reading the state of a deployment's stack, changing a parameter, deleting it."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lambdiff.aws import outputs
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, PermissionDenied, Rejected, translated
from lambdiff.config import Deployment
from lambdiff.errors import ConfigurationError, DeployError, InvalidRequest

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import ParameterTypeDef

_POLL: Final = 2.0
"""Seconds between two looks at a stack that is changing."""
_MAX_POLLS: Final = 900
_STALE_READS: Final = 5
_MADE_BY: Final = "by lambdiff."
"""How the description of every stack of lambdiff ends."""


@dataclass(frozen=True)
class StackState:
    """A stack as CloudFormation describes it.

    Attributes:
        status: for example `CREATE_COMPLETE`.
        reason: the reason for the status; empty if CloudFormation gives none.
        outputs, parameters: values by name; see `lambdiff.aws.outputs`.
        changed_at: the time of the last change, ISO 8601.
        ours: whether lambdiff created it.
        protected: whether its termination protection is on.
    """

    name: str
    status: str
    reason: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    changed_at: str = ""
    ours: bool = True
    protected: bool = False

    @property
    def stable(self) -> bool:
        """Whether no change is in progress and the last one left a usable stack."""
        return self.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")

    @property
    def changing(self) -> bool:
        """Whether a change is in progress. A stack under review is not: it waits for a change set to be executed."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def never_created(self) -> bool:
        """Whether its creation failed, so that it contains nothing in use and can only be deleted."""
        return self.status in ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")

    def __str__(self) -> str:
        return f"{self.status} {self.reason}".strip()


def check_name(name: str) -> None:
    """Check that a text can be the name or the ARN of a stack.

    Raises:
        InvalidRequest: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}|arn:aws[a-z-]*:cloudformation:[\w:/-]+", name, re.ASCII):
        raise InvalidRequest(
            f"{name[:150]!r} is not the name of a stack.", fix="Pass the stack's name or ARN, for example lambdiff."
        )


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
    tagged = any(tag["Key"] == outputs.DEPLOYMENT_TAG for tag in stack.get("Tags", []))
    # Under review, it has neither resources nor, until its change set is executed, tags and description.
    under_review = stack["StackStatus"] == "REVIEW_IN_PROGRESS"
    return StackState(
        name=name,
        status=stack["StackStatus"],
        reason=stack.get("StackStatusReason", ""),
        outputs={each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])},
        parameters={each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])},
        changed_at=changed.isoformat(timespec="seconds"),
        ours=tagged or under_review or stack.get("Description", "").endswith(_MADE_BY),
        protected=stack.get("EnableTerminationProtection", False),
    )


def read_template(account: Account, name: str) -> dict[str, Any]:
    """Return the template of a stack, as it was deployed.

    Raises:
        CredentialsError, DeployError: it cannot be read.
    """
    with translated(f"The template of the stack {name}"):
        body: Any = account.client("cloudformation").get_template(StackName=name)["TemplateBody"]
    return dict(body) if isinstance(body, Mapping) else {}  # botocore parses JSON; a template in YAML stays text


def wait_until_idle(
    account: Account,
    name: str,
    *,
    seen: Callable[[StackState], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> StackState | None:
    """Wait until no change of a stack is in progress, and return its state; None if there is no such stack.

    Args:
        account: the account.
        name: the name of the stack.
        seen: receives each state in which a change is in progress.
        sleep: waits for the given seconds.

    Raises:
        CredentialsError, DeployError: it cannot be read, or the change takes longer than half an hour.
    """
    for _ in range(_MAX_POLLS):
        state = read(account, name)
        if state is None or not state.changing:
            return state
        seen(state)
        sleep(_POLL)
    raise DeployError(
        f"The stack {name} is still changing: {state}.",
        fix="See its events in the CloudFormation console, and run the same command again when it has finished.",
    )


def require(account: Account, name: str) -> StackState:
    """Read a stack that must exist.

    Raises:
        ConfigurationError: there is no stack with this name.
        CredentialsError, DeployError: it cannot be read.
    """
    return _require(account, name, "Check the name, `profile=` and `region=`; `lambdiff deploy` creates a stack.")


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
    return _require(
        account,
        deployment.stack,
        "If it is in another account, pass its `profile=`. If it was deleted, `lambdiff deploy` creates a new one, and "
        f"`lambdiff endpoints forget {deployment.name}` forgets this one.",
    )


def _require(account: Account, name: str, fix: str) -> StackState:
    state = read(account, name)
    if state is None:
        raise ConfigurationError(
            f"There is no stack {name} in {account.region.value} of account {account.id}.", fix=fix
        )
    return state


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


def start_update(account: Account, state: StackState, changes: Mapping[str, str], *, keep_old_minutes: int = 0) -> None:
    """Begin to change parameters of a stack; its template and its other parameters stay as they are.

    Args:
        account: the account.
        state: the stack before the change.
        changes: new values by name.
        keep_old_minutes: how long CloudFormation waits between creating new resources and deleting those that they
            replace. Until then, the change can be cancelled.

    Raises:
        CredentialsError: a permission is missing.
        DeployError: CloudFormation refused the update.
    """
    changed: list[ParameterTypeDef] = [
        {"ParameterKey": name, "ParameterValue": value} for name, value in changes.items()
    ]
    kept: list[ParameterTypeDef] = [
        {"ParameterKey": name, "UsePreviousValue": True} for name in state.parameters if name not in changes
    ]
    with translated(f"The stack {state.name}", "updated"):
        account.client("cloudformation").update_stack(
            StackName=state.name,
            UsePreviousTemplate=True,
            Parameters=[*changed, *kept],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
            RollbackConfiguration={"MonitoringTimeInMinutes": keep_old_minutes},
        )


def cancel_update(account: Account, name: str) -> bool:
    """Cancel the update of a stack, which is then rolled back; return False if it can no longer be cancelled.

    Raises:
        CredentialsError, DeployError: a permission is missing, or AWS cannot be reached.
    """
    try:
        with translated(f"The update of the stack {name}", "cancelled"):
            account.client("cloudformation").cancel_update_stack(StackName=name)
    except Rejected:
        return False
    return True


def delete(account: Account, name: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Delete a stack and wait until it is gone; do nothing if there is none.

    Raises:
        CredentialsError: a permission is missing.
        DeployError: CloudFormation could not delete a resource.
    """
    before = read(account, name)
    if before is None:
        return
    with translated(f"The stack {name}", "deleted"):
        account.client("cloudformation").delete_stack(StackName=name)
    after = wait_until_idle(account, name, sleep=sleep)
    for _ in range(_STALE_READS):  # what is read right after the call may be older than the call
        if after is None or after.status != before.status:
            break
        sleep(_POLL)
        after = wait_until_idle(account, name, sleep=sleep)
    if after is not None:
        raise DeployError(
            f"The stack {name} could not be deleted: {after}{describe_failures(account, name)}",
            fix=f"Remove what AWS names, then run `lambdiff destroy` again. To delete the stack without it: "
            f"`{_delete_command(account, name)}`.",
        )


def describe_failures(account: Account, name: str) -> str:
    """Return why resources failed in the last change of a stack, as an addition to a message; empty if unknown."""
    failures = _failed_resources(account, name)
    return "".join(f" {resource}: {reason}" for resource, reason in failures.items())


def _failed_resources(account: Account, name: str) -> dict[str, str]:
    """Return the reasons by logical id; none if the identity may not read them."""
    try:
        with translated(f"The events of the stack {name}"):
            events = account.client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    except (PermissionDenied, Rejected):
        return {}
    found: dict[str, str] = {}
    for event in events:  # newest first
        status, resource = event.get("ResourceStatus", ""), event.get("LogicalResourceId", "")
        if event.get("PhysicalResourceId") == event["StackId"]:
            if status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"):
                break  # the beginning of the last change
        elif status.endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", ""):
            found[resource] = event.get("ResourceStatusReason", "no reason given")
    return found


def _delete_command(account: Account, name: str) -> str:
    command = ["aws", "cloudformation", "delete-stack", "--stack-name", name, "--region", account.region.value]
    if failed := list(_failed_resources(account, name)):
        command += ["--retain-resources", *failed]
    return shlex.join(command)
