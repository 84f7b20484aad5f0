"""The CDK bootstrap of an account and region: the bucket, the image repository and the roles that the CDK CLI uses."""

from __future__ import annotations

import shlex
from typing import Final

from lambdiff.aws import account as accounts
from lambdiff.aws import stacks
from lambdiff.aws.account import BOOTSTRAP_STACK, Account
from lambdiff.aws.error_mapping import PermissionDenied
from lambdiff.aws.stacks import StackState
from lambdiff.errors import DeployError
from lambdiff.infra.cdk_cli import Cdk
from lambdiff.stages import Confirm, Stages


def ensure(account: Account, cdk: Cdk, stages: Stages, confirm: Confirm, *, qualifier: str | None = None) -> None:
    """Bootstrap the account or update its bootstrap, after confirmation; do nothing if it is recent enough.

    A custom bootstrap, which has a qualifier, is only checked: its owner decides how it is created.

    Raises:
        CredentialsError: a permission is missing.
        DeployError: the caller declined, the bootstrap failed, or its stack is damaged.
    """
    where = f"account {account.id}, {account.region.value}"
    if qualifier is not None:
        _check_custom(account, qualifier)
        return
    state = _read_stack(account)
    if state and state.changing:
        stages.stage("Waiting for an earlier change of the CDK bootstrap")
        state = stacks.wait_until_idle(account, BOOTSTRAP_STACK, seen=lambda each: stages.detail(each.status))
    if error := _damage(account, state):
        raise error
    version = account.bootstrap_version()
    if version is not None and version >= accounts.MIN_BOOTSTRAP and not (state and state.never_created):
        return
    stages.done()
    asked = (
        f"CDK needs a bucket, an image repository and roles in {where} (created once, free while empty). Create them?"
        if version is None or (state and state.never_created)
        else f"The CDK bootstrap of {where} has version {version}, but {accounts.MIN_BOOTSTRAP} is needed. Update it?"
    )
    if not confirm(asked):
        raise DeployError(
            f"CDK is not bootstrapped in {where}.",
            fix="Confirm the question, or have an administrator run "
            f"`cdk bootstrap aws://{account.id}/{account.region.value}`.",
        )
    stages.stage("Bootstrapping the account for CDK")
    cdk.bootstrap()
    stages.done()


def _check_custom(account: Account, qualifier: str) -> int:
    version = account.bootstrap_version(qualifier)
    if version is not None and version >= accounts.MIN_BOOTSTRAP:
        return version
    where = f"account {account.id}, {account.region.value}"
    command = ["cdk", "bootstrap", f"aws://{account.id}/{account.region.value}", "--qualifier", qualifier]
    command += ["--toolkit-stack-name", f"CDKToolkit-{qualifier}"]
    found = "There is no CDK bootstrap" if version is None else f"The CDK bootstrap has version {version}"
    raise DeployError(
        f"{found} with the qualifier {qualifier} in {where}; version {accounts.MIN_BOOTSTRAP} is needed.",
        fix=f"Have its owner run `{shlex.join(command)}`, or choose another `qualifier=`.",
    )


def check(account: Account, qualifier: str | None = None) -> int | None:
    """Return the version of the bootstrap, or None if the account and region are not bootstrapped.

    Args:
        account: the account and region.
        qualifier: of a custom bootstrap, which must exist.

    Raises:
        CredentialsError: a permission is missing.
        DeployError: the bootstrap is too old or damaged; the fix has the command that repairs it.
    """
    if qualifier is not None:
        return _check_custom(account, qualifier)
    if error := _damage(account, _read_stack(account)):
        raise error
    version = account.bootstrap_version()
    if version is not None and version < accounts.MIN_BOOTSTRAP:
        raise DeployError(
            f"The CDK bootstrap has version {version}, which is too old.",
            fix="`lambdiff deploy` offers to update it, or run "
            f"`cdk bootstrap aws://{account.id}/{account.region.value}`.",
        )
    return version


def _read_stack(account: Account) -> StackState | None:
    """Return the state of the bootstrap stack; None if it has another name, or if it may not be read."""
    try:
        return stacks.read(account, BOOTSTRAP_STACK)
    except PermissionDenied:
        return None


def _damage(account: Account, state: StackState | None) -> DeployError | None:
    # Under review: creating it was interrupted before it began, and the CDK CLI begins again.
    if state is None or state.stable or state.never_created or state.changing or state.status == "REVIEW_IN_PROGRESS":
        return None
    command = ["aws", "cloudformation", _REPAIR.get(state.status, "delete-stack"), "--stack-name", BOOTSTRAP_STACK]
    return DeployError(
        f"The CDK bootstrap stack {BOOTSTRAP_STACK} is damaged: {state}"
        f"{stacks.describe_failures(account, BOOTSTRAP_STACK)}",
        fix=f"Run `{shlex.join([*command, '--region', account.region.value])}`, remove what AWS names, and deploy "
        "again. Other CDK applications of the account use it as well.",
    )


_REPAIR: Final = {"UPDATE_ROLLBACK_FAILED": "continue-update-rollback", "UPDATE_FAILED": "rollback-stack"}
"""Commands of the AWS CLI for stacks that need not be deleted."""
