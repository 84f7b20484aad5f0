"""`lambdiff destroy`: the stack, and what CloudFormation leaves behind: the image in ECR and log groups.

Function versions go with the function. The bootstrap stack stays, since other CDK applications may use it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from msgspec import Struct

from lambdiff import config
from lambdiff.errors import Cancelled, DeployError
from lambdiff.infra import account as accounts
from lambdiff.infra import stackstate
from lambdiff.infra.account import Account
from lambdiff.infra.report import Report
from lambdiff.infra.target import Target

Ask = Callable[[str], bool]


class Destroyed(Struct, frozen=True, kw_only=True):
    """What is gone, and what was kept on request; the form of `--json`."""

    name: str
    stack: str
    removed: list[str]
    kept: list[str]


def destroy(target: Target, report: Report, ask: Ask) -> Destroyed:
    """Take a deployment down.

    Raises:
        Cancelled: the caller said no.
        DeployError: CloudFormation could not delete something; it is named, and the next try goes on from there.
    """
    deployment = target.deployment.value
    account = target.account
    report.stage("Reading the stack")
    state = stackstate.of(account, deployment)
    image = _image(account, deployment.function_name)
    log_group = state.outputs.get("LogGroup", "")
    report.done()
    if not ask(f"Delete the stack {state.name} in account {account.id}, {account.region.value}, for good?"):
        raise Cancelled("Nothing was deleted.")
    report.stage("Deleting the stack")
    _delete_stack(account, state.name)
    config.remove(deployment.name)
    removed, kept = [f"stack {state.name}"], []
    report.done()
    for what, there, remove in (
        (f"image {image}", bool(image), functools.partial(_delete_image, account, image)),
        (
            f"log group {log_group}",
            _has_log_group(account, log_group),
            functools.partial(_delete_logs, account, log_group),
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
    return Destroyed(name=deployment.name, stack=state.name, removed=removed, kept=kept)


def _image(account: Account, function: str | None) -> str:
    from botocore.exceptions import ClientError

    if not function:
        return ""
    try:
        return str(account.client("lambda").get_function(FunctionName=function)["Code"].get("ImageUri", ""))
    except ClientError:
        return ""


def _delete_stack(account: Account, name: str) -> None:
    from botocore.exceptions import ClientError, WaiterError

    client = account.client("cloudformation")
    try:
        client.delete_stack(StackName=name)
        client.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 2, "MaxAttempts": 900})
    except ClientError as error:
        raise accounts.refused(error, f"The stack {name}") from None
    except WaiterError:
        state = stackstate.read(account, name)
        if state is not None:
            raise DeployError(
                f"The stack {name} could not be deleted: {state.status} {state.reason}".strip(),
                fix="Remove what AWS names, then run `lambdiff destroy` again.",
            ) from None


def _delete_image(account: Account, uri: str) -> None:
    match = re.fullmatch(
        r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^:@]+)(?::([^@]+)|@(sha256:.+))", uri
    )
    if match is None:
        raise DeployError(f"{uri} is not an image in ECR.", fix="Delete it by hand.")
    repository, tag, digest = match.groups()
    client = account.client("ecr")
    wanted = {"imageTag": tag} if tag else {"imageDigest": digest}
    if tag:
        # By digest: an image deleted by one tag of several would stay, and be paid for.
        found = client.describe_images(repositoryName=repository, imageIds=[wanted])["imageDetails"]
        wanted = {"imageDigest": found[0]["imageDigest"]}
    failed = client.batch_delete_image(repositoryName=repository, imageIds=[wanted]).get("failures", [])
    if failed:
        raise DeployError(f"The image {uri} could not be deleted: {failed[0].get('failureReason')}.", fix="Try again.")


def _has_log_group(account: Account, name: str) -> bool:
    if not name:
        return False
    groups = account.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return any(group["logGroupName"] == name for group in groups)


def _delete_logs(account: Account, name: str) -> None:
    account.client("logs").delete_log_group(logGroupName=name)
