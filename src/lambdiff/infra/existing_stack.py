"""The stack that a deployment updates: whether it can be updated, which settings it keeps, and what it would lose."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lambdiff.aws import outputs, stacks
from lambdiff.aws.account import BOOTSTRAP_QUALIFIER, Account
from lambdiff.aws.error_mapping import PermissionDenied, Rejected
from lambdiff.aws.stacks import StackState
from lambdiff.errors import ConfigurationError, DeployError
from lambdiff.infra.settings import DEFAULT_BATCH_TIMEOUT_S, Auth, StackSettings
from lambdiff.stages import Stages


@dataclass(frozen=True)
class ExistingStack:
    """A stack that was deployed before.

    Attributes:
        auth, principals, snapstart, memory_mb: the settings that it keeps unless the caller changes them: those that
            decide its URL and who may call it, and the memory, because an account with a limit below the default would
            refuse the default every time.
        batch: `batch` with the memory and the timeout of its function, which it keeps: a bucket with images must not
            be orphaned by leaving out an option.
        restrictions: the settings of the organization, which it keeps as well: leaving out an option must not lift a
            permissions boundary or move the function out of its network.
    """

    state: StackState
    auth: Auth
    principals: tuple[str, ...]
    snapstart: bool
    memory_mb: int | None
    restrictions: Mapping[str, Any] = field(default_factory=dict)
    batch: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, state: StackState, template: Mapping[str, Any]) -> ExistingStack:
        """Return a stack with the settings that its template has."""
        function = _properties(template, "AWS::Lambda::Function", "Function")
        return cls(
            state,
            auth="role" if state.outputs.get(outputs.AUTH) == "role" else "key-pair",
            principals=_principals(template),
            snapstart="SnapStart" in function,
            memory_mb=function.get("MemorySize"),
            restrictions=_restrictions(template, function),
            batch=_batch(template, function),
        )

    def kept_settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the stack that the given ones leave open."""
        kept: dict[str, Any] = {"auth": self.auth, "snapstart": self.snapstart, **self.restrictions}
        if given.get("batch", True):
            kept |= self.batch
        if self.memory_mb is not None:
            kept["memory_mb"] = self.memory_mb
        if self.principals and given.get("auth", self.auth) == "role":
            kept["principals"] = self.principals
        return {name: value for name, value in kept.items() if name not in given}

    def replacements(self, settings: StackSettings) -> Iterator[str]:
        """Yield what callers lose if the stack is updated with new settings, one sentence each."""
        if settings.snapstart != self.snapstart:
            switch, url = "on" if settings.snapstart else "off", self.state.outputs.get(outputs.URL, "")
            yield (
                f"Turning SnapStart {switch} replaces the URL {url}; other machines must save the new one with "
                f"`lambdiff configure --stack {self.state.name}`."
            )
        if self.batch and not settings.batch:
            bucket = self.state.outputs.get(outputs.BATCH_BUCKET, "")
            yield (
                f"Turning batch off removes its state machine and its function; the bucket {bucket} is kept with its "
                "images, but lambdiff does not know it any more."
            )
        if (self.auth, settings.auth) == ("key-pair", "role"):
            yield "The IAM user, its key pair and the secret are deleted; callers have to assume a role instead."
        elif (self.auth, settings.auth) == ("role", "key-pair"):
            role = self.state.outputs.get(outputs.INVOKER_ROLE_ARN, "")
            yield f"The role {role} is deleted; an IAM user with a key pair in a secret replaces it."
        elif settings.auth == "role" and (gone := [arn for arn in self.principals if arn not in settings.principals]):
            yield f"{' and '.join(gone)} may no longer assume the role."


def read(account: Account, name: str, stages: Stages) -> ExistingStack | StackState | None:
    """Read the stack that is to be updated, after waiting for a change that is in progress.

    Returns:
        None if there is no such stack yet, and its bare state if it was never complete and has to be created again.

    Raises:
        ConfigurationError: a stack with this name was not created by lambdiff.
        CredentialsError: a permission is missing.
        DeployError: the stack is in a state in which it cannot be updated.
    """
    state = stacks.read(account, name)
    if state is not None and not state.ours:
        raise ConfigurationError(
            f"The stack {name} was not created by lambdiff, which therefore does not change it.",
            fix="Choose another name for the deployment.",
        )
    if state is not None and state.changing:
        stages.stage("Waiting for an earlier change of the stack")
        state = stacks.wait_until_idle(account, name, seen=lambda each: stages.detail(each.status))
    if state is None or state.never_created or state.status == "REVIEW_IN_PROGRESS":
        return state
    if not state.stable:
        raise cannot_be_updated(account, state)
    return ExistingStack.of(state, stacks.read_template(account, name))


def read_qualifier(account: Account, name: str) -> str | None:
    """Return the qualifier of the custom CDK bootstrap that a stack was deployed with; None for CDK's own.

    It is also None if the template cannot be read: a stack under review has none, and the permission may be missing.
    """
    try:
        return _qualifier(stacks.read_template(account, name))
    except (PermissionDenied, Rejected):
        return None


def check_deletable(account: Account, state: StackState) -> None:
    """Check that a stack may be deleted.

    Raises:
        ConfigurationError: it is not lambdiff's, or its termination protection is on.
    """
    if not state.ours:
        raise ConfigurationError(
            f"The stack {state.name} was not created by lambdiff, which therefore does not delete it.",
            fix="Delete it with the tool that created it.",
        )
    if state.protected:
        command = ["aws", "cloudformation", "update-termination-protection", "--no-enable-termination-protection"]
        command += ["--stack-name", state.name, "--region", account.region.value]
        raise ConfigurationError(
            f"The stack {state.name} is protected against deletion (termination protection).",
            fix=f"If it may be deleted, run `{shlex.join(command)}` first.",
        )


def cannot_be_updated(account: Account, state: StackState) -> DeployError:
    """Return the error for a stack that is neither stable nor changing; its fix has the command that repairs it."""
    advice = (
        "Finish deleting it with `lambdiff destroy`"
        if state.status == "DELETE_FAILED"
        else f"{_repair(account, state)}, or delete the stack with `lambdiff destroy`"
    )
    return _cannot_be_updated(account, state, f"{advice}, then deploy again.")


def builder_cannot_be_updated(account: Account, state: StackState) -> DeployError:
    """Return the error for such a builder stack; `lambdiff destroy` would delete the endpoint with it."""
    advice = f"{_repair(account, state)}, then deploy again, or build with a container engine: `builder=local`."
    return _cannot_be_updated(account, state, advice)


def _cannot_be_updated(account: Account, state: StackState, advice: str) -> DeployError:
    failures = stacks.describe_failures(account, state.name)
    return DeployError(f"The stack {state.name} cannot be updated: {state}{failures}", fix=advice)


def _repair(account: Account, state: StackState) -> str:
    command = _RECOVERY.get(state.status)
    target = ["--stack-name", state.name, "--region", account.region.value]
    return f"Run `{shlex.join(['aws', 'cloudformation', command, *target])}`" if command else "Repair it"


def _properties(template: Mapping[str, Any], kind: str, logical_id: str) -> dict[str, Any]:
    """Return the properties of the first resource of a type whose logical id begins with `logical_id`."""
    for name, resource in template.get("Resources", {}).items():
        if resource.get("Type") == kind and name.startswith(logical_id):
            return dict(resource.get("Properties", {}))
    return {}


def _restrictions(template: Mapping[str, Any], function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the organization that a template has."""
    found: dict[str, Any] = {}
    if qualifier := _qualifier(template):
        found["qualifier"] = qualifier
    if boundary := _properties(template, "AWS::IAM::Role", "FunctionRole").get("PermissionsBoundary"):
        found["permissions_boundary"] = _policy(boundary)
    if network := function.get("VpcConfig"):
        found["vpc_subnets"] = tuple(network["SubnetIds"])
        found["vpc_security_groups"] = tuple(network["SecurityGroupIds"])
    return found


def _batch(template: Mapping[str, Any], endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of batch that a template has; empty without batch."""
    function = _properties(template, "AWS::Lambda::Function", "BatchFunction")
    if not function:
        return {}
    found: dict[str, Any] = {"batch": True, "batch_timeout_s": function.get("Timeout", DEFAULT_BATCH_TIMEOUT_S)}
    if function.get("MemorySize") != endpoint.get("MemorySize"):
        found["batch_memory_mb"] = function.get("MemorySize")
    return found


def _qualifier(template: Mapping[str, Any]) -> str | None:
    parameter = template.get("Parameters", {}).get("BootstrapVersion", {}).get("Default", "")
    match = re.fullmatch(r"/cdk-bootstrap/(\w+)/version", parameter)
    return match[1] if match and match[1] != BOOTSTRAP_QUALIFIER else None


def _policy(boundary: str | Mapping[str, Any]) -> str:
    """Return the ARN of a policy, or its name if the template composes the ARN from the stack's account."""
    if isinstance(boundary, str):
        return boundary
    *_, last = boundary["Fn::Join"][1]
    return str(last).partition("policy/")[2]


def _principals(template: Mapping[str, Any]) -> tuple[str, ...]:
    """Return who may assume the invoker's role."""
    trust = _properties(template, "AWS::IAM::Role", "InvokerRole").get("AssumeRolePolicyDocument", {})
    found: list[str] = []
    for statement in trust.get("Statement", []):
        arns = statement.get("Principal", {}).get("AWS", [])
        found += [arns] if isinstance(arns, str) else [arn for arn in arns if isinstance(arn, str)]
    return tuple(found)


_RECOVERY: Final = {
    "UPDATE_ROLLBACK_FAILED": "continue-update-rollback",
    "UPDATE_FAILED": "rollback-stack",
    "IMPORT_ROLLBACK_FAILED": "rollback-stack",
    "DELETE_FAILED": "delete-stack",
}
