"""`lambdiff destroy`: delete the stack, then ask about what CloudFormation retains: the image and the logs.

Published versions are deleted with the function. The CDK bootstrap stack stays, because other CDK applications may
use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from lambdiff import config
from lambdiff.aws import function as functions
from lambdiff.aws import images, logs, outputs, stacks
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.config import Deployment
from lambdiff.errors import Cancelled
from lambdiff.files import write_atomically
from lambdiff.infra.settings import DEFAULT_NAME
from lambdiff.stages import Confirm, Stages


class DestroyResult(Struct, frozen=True, kw_only=True):
    """What was deleted and what was kept, as `lambdiff destroy --json` prints it."""

    name: str
    stack: str
    removed: list[str]
    kept: list[str]


class RetainedResources(Struct, frozen=True, kw_only=True):
    """What CloudFormation retains, recorded before the stack is deleted, because it cannot be found afterwards."""

    account: str
    region: str
    stack: str
    image: str = ""
    log_group: str = ""


@dataclass(frozen=True)
class _Leftover:
    """A retained resource that exists, and the call that deletes it."""

    kind: str
    name: str
    delete: Callable[[Account, str], None]


def destroy(target: SelectedDeployment, stages: Stages, confirm: Confirm) -> DestroyResult:
    """Delete a deployment. It is removed from the saved deployments last, so that an interrupted run can be repeated.

    Raises:
        Cancelled: the caller declined.
        CredentialsError: a permission is missing.
        DeployError: a resource could not be deleted; the next run continues from there.
    """
    deployment, account = target.deployment.value, target.account
    stages.stage("Reading the stack")
    record = config.home() / "destroying" / f"{deployment.name}.json"
    retained = _find_retained(account, deployment, _read_record(record, account, deployment))
    stages.done()
    if not confirm(f"Delete the stack {retained.stack} in account {retained.account}, {retained.region}, permanently?"):
        raise Cancelled("Nothing was deleted.")
    write_atomically(record, msgspec.json.encode(retained), force=True, mode=0o600)
    stages.stage("Deleting the stack")
    stacks.delete(account, retained.stack)
    stages.done()
    removed, kept = _delete_retained(account, deployment, retained, stages, confirm)
    config.remove(deployment.name)
    record.unlink(missing_ok=True)
    return DestroyResult(
        name=deployment.name, stack=retained.stack, removed=[f"stack {retained.stack}", *removed], kept=kept
    )


def _read_record(path: Path, account: Account, deployment: Deployment) -> RetainedResources | None:
    """Return what an interrupted run recorded about the same stack."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=RetainedResources)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    same = (record.account, record.region, record.stack) == (account.id, account.region.value, deployment.stack)
    return record if same else None


def _find_retained(account: Account, deployment: Deployment, record: RetainedResources | None) -> RetainedResources:
    state = stacks.read(account, record.stack) if record else stacks.require_for(account, deployment)
    function = functions.find(account, deployment.function_name)
    return RetainedResources(
        account=account.id,
        region=account.region.value,
        stack=deployment.stack or "",
        image=(function.image_uri if function else "") or (record.image if record else ""),
        log_group=(state.outputs.get(outputs.LOG_GROUP) if state else None) or (record.log_group if record else ""),
    )


def _delete_retained(
    account: Account, deployment: Deployment, retained: RetainedResources, stages: Stages, confirm: Confirm
) -> tuple[list[str], list[str]]:
    """Ask about each retained resource and delete it; return what was removed and what was kept."""
    removed: list[str] = []
    kept: list[str] = []
    leftovers: list[_Leftover] = []
    if retained.image:
        if user := _other_user(account, deployment, retained.image):
            kept.append(f"image {retained.image} (in use by {user})")
        else:
            leftovers.append(_Leftover("image", retained.image, images.delete))
    if logs.exists(account, retained.log_group):
        leftovers.append(_Leftover("log group", retained.log_group, logs.delete))
    for leftover in leftovers:
        label = f"{leftover.kind} {leftover.name}"
        if confirm(f"Delete the {label} as well?"):
            stages.stage(f"Deleting the {leftover.kind}")
            leftover.delete(account, leftover.name)
            removed.append(label)
        else:
            kept.append(label)
    stages.done()
    return removed, kept


def _other_user(account: Account, deployment: Deployment, image: str) -> str:
    """Return the name of another function with the same image, if any: deployments of one model share an image."""
    saved = config.load().deployments.values()
    names = {each.function_name for each in saved if each.region == account.region.value}
    names |= functions.names(account, DEFAULT_NAME)
    for name in sorted(name for name in names if name and name != deployment.function_name):
        function = functions.find(account, name)
        if function and function.image_uri == image:
            return name
    return ""
