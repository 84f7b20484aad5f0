"""`lambdiff status`: the state of a deployment, each value with its source."""

from __future__ import annotations

import time
from typing import Any, Final

from msgspec import Struct

from lambdiff import config
from lambdiff.aws import function as functions
from lambdiff.aws import logs, outputs, stacks
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.aws.function import Function
from lambdiff.aws.stacks import StackState
from lambdiff.config import Sourced
from lambdiff.errors import ConfigurationError, CredentialsError, DeployError
from lambdiff.infra import base_image
from lambdiff.infra.registry import ImageReference, RegistryError

ERROR_PERIOD: Final = 24 * 3600
"""How many seconds of the log are searched for errors."""
MAX_ERRORS: Final = 5
ERROR_MARKERS: Final = ('"level":"ERROR"', "Task timed out", "Runtime.ExitError", "Runtime.ImportModuleError")
"""The handler's errors are JSON with a level; Lambda itself reports timeouts, exits and failed imports."""


class Status(Struct, frozen=True, kw_only=True):
    """The state of a deployment, as `lambdiff status --json` prints it.

    Attributes:
        healthy: the stack is stable, the function is ready and its concurrency is not 0.
        facts: values by name, each with its source.
        errors: the last lines of the log that report an error.
    """

    name: str
    healthy: bool
    facts: dict[str, Sourced[Any]]
    errors: list[str]


def status(target: SelectedDeployment) -> Status:
    """Read the state of a deployment. The function is not invoked, so this is free.

    Raises:
        CredentialsError, ConfigurationError, DeployError: the stack or the function cannot be read.
    """
    deployment, account = target.deployment.value, target.account
    file = str(config.path())
    facts: dict[str, Sourced[Any]] = {
        "deployment": Sourced(deployment.name, target.deployment.source),
        "url": Sourced(deployment.shown_url, file),
        "auth": Sourced(deployment.auth, file),
        "region": account.region,
        "account": Sourced(account.id, "STS"),
        "caller": Sourced(account.arn, "STS"),
    }
    stable = True
    if deployment.stack:
        state = stacks.require_for(account, deployment)
        stable = state.stable
        facts |= _stack_facts(state)
    function = target.read_function()
    reserved = functions.reserved_concurrency(account, function.name)
    facts |= _function_facts(function, reserved)
    return Status(
        name=deployment.name,
        healthy=stable and function.ready and reserved != 0,
        facts=facts,
        errors=_errors(account, function.log_group),
    )


def _stack_facts(state: StackState) -> dict[str, Sourced[Any]]:
    source = f"stack {state.name}"
    facts: dict[str, Sourced[Any]] = {
        "stack": Sourced(state.status, "CloudFormation"),
        "changed": Sourced(state.changed_at, "CloudFormation"),
    }
    if state.reason:
        facts["reason"] = Sourced(state.reason, "CloudFormation")
    for name, output in (
        ("url", outputs.URL),
        ("auth", outputs.AUTH),
        ("model", outputs.MODEL),
        ("engine", outputs.ENGINE),
        ("base image", outputs.BASE_IMAGE),
        ("secret", outputs.SECRET_ARN),
        ("role", outputs.INVOKER_ROLE_ARN),
    ):
        if output in state.outputs:
            facts[name] = Sourced(state.outputs[output], source)
    if outputs.BASE_IMAGE in state.outputs:
        facts["newer base image"] = _newer_base_image(state.outputs[outputs.BASE_IMAGE])
    if outputs.KEY_SERIAL in state.parameters:
        facts["key serial"] = Sourced(int(state.parameters[outputs.KEY_SERIAL]), source)
    return facts


def _newer_base_image(recorded: str) -> Sourced[Any]:
    image = ImageReference.parse(recorded)
    if not image.tag:
        return Sourced("none: the digest is fixed", "configuration")
    try:
        newer = base_image.update_of(image)
    except RegistryError as error:
        return Sourced(f"unknown: {error.message}", image.registry)
    return Sourced(f"{newer}; `lambdiff deploy` builds on it" if newer else "none", image.registry)


def _function_facts(function: Function, reserved: int | None) -> dict[str, Sourced[Any]]:
    return {
        name: Sourced(value, "Lambda")
        for name, value in (
            ("function", function.name),
            ("state", function.state),
            ("memory_mb", function.memory_mb),
            ("timeout_s", function.timeout_s),
            ("tmp_mb", function.tmp_mb),
            ("architecture", function.architecture),
            ("concurrency", "not limited" if reserved is None else reserved),
            ("log group", function.log_group),
        )
    }


def _errors(account: Account, log_group: str) -> list[str]:
    """Return the last lines of the log that report an error."""
    try:
        lines = list(logs.read(account, log_group, since=time.time() - ERROR_PERIOD))
    except (CredentialsError, DeployError) as error:
        return [f"The log cannot be read: {error.message}"]
    except ConfigurationError:  # there is no log group yet
        return []
    errors = [
        f"{line.time} {line.text.strip()}" for line in lines if any(marker in line.text for marker in ERROR_MARKERS)
    ]
    return errors[-MAX_ERRORS:]
