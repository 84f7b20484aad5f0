"""`lambdiff status`: what is deployed and how it is doing, each value with its source."""

from __future__ import annotations

import time
from typing import Any, Final

from msgspec import Struct

from lambdiff import config
from lambdiff.aws import logs, stacks
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.errors import ConfigurationError, LambdiffError

ERRORS_SINCE: Final = 24 * 3600
MAX_ERRORS: Final = 5


class Fact(Struct, frozen=True):
    """A value and where it was read."""

    value: Any
    source: str


class Status(Struct, frozen=True, kw_only=True):
    """The report; the form of `--json`.

    Attributes:
        healthy: the stack is at rest, the function is ready and its concurrency is not 0.
        facts: by name.
        errors: the last lines of the log with errors.
    """

    name: str
    healthy: bool
    facts: dict[str, Fact]
    errors: list[str]


def status(target: SelectedDeployment) -> Status:
    """Read everything that AWS says about a deployment. Nothing is invoked, so it costs nothing.

    Raises:
        CredentialsError, ConfigurationError, DeployError: the stack or the function cannot be read.
    """
    deployment, account = target.deployment.value, target.account
    file = str(config.path())
    facts = {
        "deployment": Fact(deployment.name, target.deployment.source),
        "url": Fact(deployment.url, file),
        "auth": Fact(deployment.auth, file),
        "region": Fact(account.region.value, file),
        "account": Fact(account.id, "STS"),
        "caller": Fact(account.arn, "STS"),
    }
    at_rest = True
    if deployment.stack:
        state = stacks.of(account, deployment)
        at_rest = state.at_rest
        where = f"stack {state.name}"
        facts["stack"] = Fact(state.status, "CloudFormation")
        facts["changed"] = Fact(state.changed_at, "CloudFormation")
        if state.reason:
            facts["reason"] = Fact(state.reason, "CloudFormation")
        for name, output in (
            ("url", "LambdaUrl"),
            ("auth", "Auth"),
            ("model", "Model"),
            ("engine", "Engine"),
            ("secret", "SecretArn"),
            ("role", "InvokerRoleArn"),
        ):
            if output in state.outputs:
                facts[name] = Fact(state.outputs[output], where)
        if "KeySerial" in state.parameters:
            facts["key serial"] = Fact(int(state.parameters["KeySerial"]), where)
    function, ready = _function(target)
    facts |= function
    return Status(
        name=deployment.name,
        healthy=at_rest and ready,
        facts=facts,
        errors=_errors(target),
    )


def _function(target: SelectedDeployment) -> tuple[dict[str, Fact], bool]:
    from botocore.exceptions import ClientError

    from lambdiff.aws import account as accounts

    client = target.account.client("lambda")
    try:
        found = client.get_function_configuration(FunctionName=target.function)
        reserved = client.get_function_concurrency(FunctionName=target.function).get("ReservedConcurrentExecutions")
    except ClientError as error:
        raise accounts.refused(error, f"The function {target.function}") from None
    state = found.get("State", "Active")
    facts = {
        "function": Fact(target.function, "Lambda"),
        "state": Fact(state, "Lambda"),
        "memory_mb": Fact(found["MemorySize"], "Lambda"),
        "timeout_s": Fact(found["Timeout"], "Lambda"),
        "tmp_mb": Fact(found.get("EphemeralStorage", {}).get("Size", 512), "Lambda"),
        "architecture": Fact(found.get("Architectures", ["x86_64"])[0], "Lambda"),
        "concurrency": Fact("not limited" if reserved is None else reserved, "Lambda"),
        "log group": Fact(found.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{target.function}"), "Lambda"),
    }
    return facts, state in ("Active", "Inactive") and reserved != 0


def _errors(target: SelectedDeployment) -> list[str]:
    """Lines that report an error; the handler's are JSON with a level, Lambda's own name the time-out or the exit."""
    try:
        group = logs.group_of(target)
        lines = list(logs.read(target.account, group, since=time.time() - ERRORS_SINCE))
    except ConfigurationError:
        return []
    except LambdiffError as error:
        return [f"The log cannot be read: {error.message}"]
    marks = ('"level":"ERROR"', "Task timed out", "Runtime.ExitError", "Runtime.ImportModuleError")
    wrong = [f"{line.time} {line.text.strip()}" for line in lines if any(mark in line.text for mark in marks)]
    return wrong[-MAX_ERRORS:]
