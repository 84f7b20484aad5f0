"""`lambdiff destroy`: the stack, and what CloudFormation leaves behind: the image in ECR and log groups.

Function versions go with the function. The bootstrap stack stays, since other CDK applications may use it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from lambdiff import config
from lambdiff.aws import account as accounts
from lambdiff.aws import stacks
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.config import Deployment
from lambdiff.errors import Cancelled, DeployError
from lambdiff.files import write_whole
from lambdiff.stages import Stages

Ask = Callable[[str], bool]


class Destroyed(Struct, frozen=True, kw_only=True):
    """What is gone, and what was kept on request; the form of `--json`."""

    name: str
    stack: str
    removed: list[str]
    kept: list[str]


class RetainedResources(Struct, frozen=True, kw_only=True):
    """What CloudFormation will leave behind, noted before the stack goes: afterwards nobody could tell."""

    account: str
    region: str
    stack: str
    image: str = ""
    log_group: str = ""


def destroy(target: SelectedDeployment, report: Stages, ask: Ask) -> Destroyed:
    """Take a deployment down. The deployment is forgotten last, so that what was cut off can be run again.

    Raises:
        Cancelled: the caller said no.
        CredentialsError: a permission is missing.
        DeployError: CloudFormation could not delete something; it is named, and the next try goes on from there.
    """
    deployment = target.deployment.value
    account = target.account
    report.stage("Reading the stack")
    note = config.home() / "destroying" / f"{deployment.name}.json"
    noted = _noted(note, account, deployment)
    state = stacks.read(account, noted.stack) if noted else stacks.of(account, deployment)
    left = RetainedResources(
        account=account.id,
        region=account.region.value,
        stack=deployment.stack or "",
        image=_image(account, deployment.function_name) or (noted.image if noted else ""),
        log_group=(state.outputs.get("LogGroup") if state else None) or (noted.log_group if noted else ""),
    )
    report.done()
    if not ask(f"Delete the stack {left.stack} in account {left.account}, {left.region}, for good?"):
        raise Cancelled("Nothing was deleted.")
    write_whole(note, msgspec.json.encode(left), force=True, mode=0o600)
    report.stage("Deleting the stack")
    _delete_stack(account, left.stack)
    report.done()
    removed, kept = [f"stack {left.stack}"], []
    if left.image and (user := _other_user(account, deployment, left.image)):
        kept.append(f"image {left.image} (in use by {user})")
        left = msgspec.structs.replace(left, image="")
    for what, there, remove in (
        (f"image {left.image}", bool(left.image), functools.partial(_delete_image, account, left.image)),
        (
            f"log group {left.log_group}",
            _has_log_group(account, left.log_group),
            functools.partial(_delete_logs, account, left.log_group),
        ),
    ):
        if not there:
            continue
        if ask(f"Delete the {what} as well?"):
            report.stage(f"Deleting the {what.split(maxsplit=1)[0]}")
            remove()
            removed.append(what)
        else:
            kept.append(what)
    report.done()
    config.remove(deployment.name)
    note.unlink(missing_ok=True)
    return Destroyed(name=deployment.name, stack=left.stack, removed=removed, kept=kept)


def _noted(note: Path, account: Account, deployment: Deployment) -> RetainedResources | None:
    try:
        left = msgspec.json.decode(note.read_bytes(), type=RetainedResources)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    same = (left.account, left.region, left.stack) == (account.id, account.region.value, deployment.stack)
    return left if same else None


def _image(account: Account, function: str | None) -> str:
    from botocore.exceptions import ClientError

    if not function:
        return ""
    try:
        return str(account.client("lambda").get_function(FunctionName=function)["Code"].get("ImageUri", ""))
    except ClientError as error:
        if accounts.code(error) == "ResourceNotFoundException":
            return ""
        raise accounts.refused(error, f"The function {function}") from None


def _other_user(account: Account, deployment: Deployment, image: str) -> str:
    """A function that runs from the same image: its tag is a hash of its content, so one model is one image."""
    from botocore.exceptions import ClientError

    saved = config.load().deployments.values()
    names = {each.function_name for each in saved if each.region == account.region.value}
    try:
        for page in account.client("lambda").get_paginator("list_functions").paginate():
            names |= {each["FunctionName"] for each in page["Functions"] if each["FunctionName"].startswith("lambdiff")}
    except ClientError as error:
        if accounts.code(error) not in accounts.DENIED:
            raise accounts.refused(error, "The account's functions") from None
    for name in sorted(name for name in names if name and name != deployment.function_name):
        if _image(account, name) == image:
            return name
    return ""


def _delete_stack(account: Account, name: str) -> None:
    from botocore.exceptions import ClientError, WaiterError

    client = account.client("cloudformation")
    try:
        client.delete_stack(StackName=name)
        client.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 2, "MaxAttempts": 900})
    except ClientError as error:
        raise accounts.refused(error, f"The stack {name}", "deleted") from None
    except WaiterError:
        state = stacks.read(account, name)
        if state is not None:
            raise DeployError(
                f"The stack {name} could not be deleted: {state.status} {state.reason}".strip(),
                fix="Remove what AWS names, then run `lambdiff destroy` again.",
            ) from None


def _delete_image(account: Account, uri: str) -> None:
    from botocore.exceptions import ClientError

    match = re.fullmatch(
        r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^:@]+)(?::([^@]+)|@(sha256:.+))", uri
    )
    if match is None:
        raise DeployError(f"{uri} is not an image in ECR.", fix="Delete it by hand.")
    repository, tag, digest = match.groups()
    client = account.client("ecr")
    wanted = {"imageTag": tag} if tag else {"imageDigest": digest}
    try:
        if tag:
            # By digest: an image deleted by one tag of several would stay, and be paid for.
            found = client.describe_images(repositoryName=repository, imageIds=[wanted])["imageDetails"]
            wanted = {"imageDigest": found[0]["imageDigest"]}
        failed = client.batch_delete_image(repositoryName=repository, imageIds=[wanted]).get("failures", [])
    except ClientError as error:
        if accounts.code(error) in ("ImageNotFoundException", "RepositoryNotFoundException"):
            return
        raise accounts.refused(error, f"The image {uri}", "deleted") from None
    if failed and failed[0].get("failureCode") != "ImageNotFound":
        raise DeployError(f"The image {uri} could not be deleted: {failed[0].get('failureReason')}.", fix="Try again.")


def _has_log_group(account: Account, name: str) -> bool:
    from botocore.exceptions import ClientError

    if not name:
        return False
    try:
        groups = account.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    except ClientError as error:
        raise accounts.refused(error, f"The log group {name}") from None
    return any(group["logGroupName"] == name for group in groups)


def _delete_logs(account: Account, name: str) -> None:
    from botocore.exceptions import ClientError

    try:
        account.client("logs").delete_log_group(logGroupName=name)
    except ClientError as error:
        if accounts.code(error) != "ResourceNotFoundException":
            raise accounts.refused(error, f"The log group {name}", "deleted") from None
