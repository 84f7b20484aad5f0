"""A deployment's Lambda function: its configuration, and the changes that lambdiff makes to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lambdiff import pricing
from lambdiff.aws.account import Account
from lambdiff.aws.error_mapping import NotFound, PermissionDenied, translated
from lambdiff.errors import DeployError

Architecture = Literal["x86_64", "arm64"]


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
    found = reply["Configuration"]
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


def names(account: Account, prefix: str) -> set[str]:
    """Return the names of the account's functions that begin with `prefix`; none if the identity may not list them."""
    found: set[str] = set()
    try:
        with translated("The account's functions", "listed"):
            for page in account.client("lambda").get_paginator("list_functions").paginate():
                found |= {each["FunctionName"] for each in page["Functions"]}
    except PermissionDenied:
        return set()
    return {name for name in found if name.startswith(prefix)}


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
