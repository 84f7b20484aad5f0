"""`lambdiff rotate`: replace the invoker's access key.

This is a stack update that changes one parameter. It needs neither the CDK nor the image, so any machine can do it.
CloudFormation creates the new key, writes it to the secret and then deletes the old one.
"""

from __future__ import annotations

from msgspec import Struct

from lambdiff.aws import outputs, stacks
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.errors import ConfigurationError, DeployError
from lambdiff.stages import Stages


class RotateResult(Struct, frozen=True, kw_only=True):
    """The new key, as `lambdiff rotate --json` prints it.

    Attributes:
        serial: the key's number; the first key of a deployment is number 1.
        secret: the ARN of the secret that contains it.
    """

    name: str
    stack: str
    serial: int
    secret: str


def rotate(target: SelectedDeployment, stages: Stages) -> RotateResult:
    """Replace the invoker's access key.

    Raises:
        ConfigurationError: the deployment has no key.
        CredentialsError, DeployError: CloudFormation refused the update or rolled it back; the old key is still valid.
    """
    deployment, account = target.deployment.value, target.account
    stages.stage("Reading the stack")
    state = stacks.require_for(account, deployment)
    if outputs.KEY_SERIAL not in state.parameters:
        raise ConfigurationError(
            f"The stack {state.name} has no access key, because callers assume a role.",
            fix="There is no key to rotate.",
        )
    serial = int(state.parameters[outputs.KEY_SERIAL]) + 1
    stages.stage("Replacing the key")
    try:
        stacks.update_parameters(account, state, {outputs.KEY_SERIAL: str(serial)})
    except DeployError as error:
        error.fix = f"{error.fix} The old key is still valid.".strip()
        raise
    stages.done()
    return RotateResult(
        name=deployment.name, stack=state.name, serial=serial, secret=state.outputs.get(outputs.SECRET_ARN, "")
    )
