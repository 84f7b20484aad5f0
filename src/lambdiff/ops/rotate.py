"""`lambdiff rotate`: a new access key in the secret, and the old one gone.

One stack update that changes one parameter, so that it needs neither the CDK nor the image, and can be done from a
machine that never saw either. CloudFormation makes the new key, writes it to the secret, and then deletes the old one.
"""

from __future__ import annotations

from msgspec import Struct

from lambdiff.aws import account as accounts
from lambdiff.aws import stacks
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.errors import ConfigurationError, DeployError
from lambdiff.stages import Stages

PARAMETER = "KeySerial"


class Rotated(Struct, frozen=True, kw_only=True):
    """What was done; the form of `--json`."""

    name: str
    stack: str
    serial: int
    secret: str


def rotate(target: SelectedDeployment, report: Stages) -> Rotated:
    """Replace the invoker's key.

    Raises:
        ConfigurationError: the deployment has no key.
        DeployError: CloudFormation refused or rolled back; the old key is then still good.
    """
    from botocore.exceptions import ClientError, WaiterError

    deployment = target.deployment.value
    report.stage("Reading the stack")
    state = stacks.of(target.account, deployment)
    if PARAMETER not in state.parameters:
        raise ConfigurationError(
            f"The stack {state.name} has no key: its callers assume a role.", fix="There is nothing to rotate."
        )
    serial = int(state.parameters[PARAMETER]) + 1
    client = target.account.client("cloudformation")
    kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in state.parameters if name != PARAMETER]
    report.stage("Replacing the key")
    try:
        client.update_stack(
            StackName=state.name,
            UsePreviousTemplate=True,
            Parameters=[{"ParameterKey": PARAMETER, "ParameterValue": str(serial)}, *kept],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        )
        client.get_waiter("stack_update_complete").wait(
            StackName=state.name, WaiterConfig={"Delay": 2, "MaxAttempts": 300}
        )
    except ClientError as error:
        raise accounts.refused(error, f"The stack {state.name}") from None
    except WaiterError:
        now = stacks.of(target.account, deployment)
        raise DeployError(
            f"The key was not replaced: {now.status} {now.reason}".strip(), fix="Try again; the old key is still good."
        ) from None
    report.done()
    return Rotated(name=deployment.name, stack=state.name, serial=serial, secret=state.outputs.get("SecretArn", ""))
