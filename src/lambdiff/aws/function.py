"""A deployment's Lambda function: its configuration, and the changes that lambdiff makes to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from lambdiff import pricing
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, PermissionDenied, translated
from lambdiff.errors import DeployError

Architecture = Literal["x86_64", "arm64"]
SNAPSTART_ALIAS: Final = "live"
"""The alias of the published version that a Function URL with SnapStart serves."""


@dataclass(frozen=True)
class Function:
    """The configuration of a function.

    Attributes:
        memory_mb, tmp_mb: MB of memory and of `/tmp`.
        timeout_s: seconds that a request may take.
        state: `Active`, or for example `Pending` or `Inactive`.
        updating: whether an update is in progress.
        snapstart: whether published versions have SnapStart; the Function URL then serves one of them.
        log_group: the name of its log group.
        image_uri: the address of its image in ECR; empty for a function from a zip archive.
        image_known: whether the hash of its code is the digest of its image, as `users_of_images` expects.
    """

    name: str
    arn: str
    memory_mb: int
    tmp_mb: int
    timeout_s: int
    architecture: Architecture
    state: str
    updating: bool
    snapstart: bool
    log_group: str
    image_uri: str
    image_known: bool = True

    @property
    def target_arn(self) -> str:
        """The ARN that the Function URL belongs to, and that permissions to call it name."""
        return f"{self.arn}:{SNAPSTART_ALIAS}" if self.snapstart else self.arn

    @property
    def ready(self) -> bool:
        """Whether the function answers requests; an inactive one starts again at the next request."""
        return self.state in ("Active", "Inactive")

    def price(self, seconds: float, memory_mb: int | None = None) -> float:
        """Return the price of a request in dollars.

        Args:
            seconds: the billed duration.
            memory_mb: the memory; by default the current setting.
        """
        return pricing.invocation(
            self.memory_mb if memory_mb is None else memory_mb,
            seconds,
            architecture=self.architecture,
            tmp_mb=self.tmp_mb,
        )


def read(account: Account, name: str) -> Function:
    """Read the configuration of a function.

    Raises:
        CredentialsError, DeployError: it cannot be read; `NotFound` if there is no such function.
    """
    with translated(f"The function {name}"):
        reply = account.client("lambda").get_function(FunctionName=name)
    found, resolved = reply["Configuration"], reply.get("Code", {}).get("ResolvedImageUri", "")
    return Function(
        name=name,
        arn=found["FunctionArn"],
        memory_mb=found["MemorySize"],
        tmp_mb=found.get("EphemeralStorage", {"Size": 512})["Size"],
        timeout_s=found["Timeout"],
        architecture="arm64" if found.get("Architectures") == ["arm64"] else "x86_64",
        state=found.get("State", "Active"),
        updating=found.get("LastUpdateStatus") == "InProgress",
        snapstart=found.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions",
        log_group=found.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{name}",
        image_uri=reply.get("Code", {}).get("ImageUri", ""),
        image_known=resolved.partition("@sha256:")[2] in ("", found.get("CodeSha256")),
    )


def find(account: Account, name: str | None) -> Function | None:
    """Read the configuration of a function, or return None if there is no such function.

    Raises:
        CredentialsError, DeployError: it cannot be read.
    """
    if not name:
        return None
    try:
        return read(account, name)
    except NotFound:
        return None


def reserved_concurrency(account: Account, name: str) -> int | None:
    """Return the number of concurrent executions reserved for a function, or None if there is no reservation."""
    with translated(f"The function {name}"):
        reply = account.client("lambda").get_function_concurrency(FunctionName=name)
    return reply.get("ReservedConcurrentExecutions")


def users_of_images(account: Account) -> dict[str, set[str]] | None:
    """Return the names of the functions that use each image, by the image's digest.

    All versions count, because a published version keeps its image.

    Returns:
        None if this cannot be known: the identity may not list functions, or AWS describes them in another way.
    """
    users: dict[str, set[str]] = {}
    try:
        with translated("The account's functions", "listed"):
            for page in account.client("lambda").get_paginator("list_functions").paginate(FunctionVersion="ALL"):
                for each in page["Functions"]:
                    if each.get("PackageType") == "Image":
                        # For an image, the hash is its digest without the prefix.
                        digest = each.get("CodeSha256", "").removeprefix("sha256:")
                        if not re.fullmatch(r"[0-9a-f]{64}", digest):
                            return None
                        users.setdefault(f"sha256:{digest}", set()).add(each["FunctionName"])
    except PermissionDenied:
        return None
    return users


def set_memory(account: Account, name: str, memory_mb: int) -> None:
    """Request another memory size; then call `wait_until_updated`.

    Raises:
        InvalidValue: the account may not have functions of this size.
        Conflict: an earlier update is still in progress.
        CredentialsError, DeployError: it could not be changed.
    """
    with translated(f"The memory of {name}", "changed"):
        account.client("lambda").update_function_configuration(FunctionName=name, MemorySize=memory_mb)


def wait_until_updated(account: Account, name: str) -> None:
    """Wait until the last update of a function is in effect.

    Raises:
        DeployError: the update failed, or takes too long.
    """
    from botocore.exceptions import WaiterError

    with translated(f"The function {name}"):
        try:
            account.client("lambda").get_waiter("function_updated_v2").wait(FunctionName=name)
        except WaiterError as error:
            raise DeployError(
                f"The update of {name} did not take effect: {error}.",
                fix="Try again; `lambdiff status` shows its state.",
            ) from None
