"""Replacing the access key of a stack, with moto in place of AWS (ops/rotate.py)."""

from __future__ import annotations

import io

import pytest

from lambdiff.aws import stacks
from lambdiff.aws.deployment import SelectedDeployment, select
from lambdiff.errors import ConfigurationError, CredentialsError
from lambdiff.ops import rotate
from lambdiff.stages import Stages
from support.aws_resources import OUTPUTS, make_stack, refusing, save_deployment


def quiet() -> Stages:
    """Return stages on a stream that nothing reads."""
    return Stages(io.StringIO())


def test_each_rotation_raises_the_serial_by_one(deployed: SelectedDeployment) -> None:
    """Each rotation raises the stack's `KeySerial` parameter by one and changes nothing else."""
    assert rotate.rotate(deployed, quiet()).serial == 2
    assert rotate.rotate(deployed, quiet()).serial == 3
    state = stacks.read(deployed.account, "lambdiff")
    assert state is not None
    assert state.parameters == {"KeySerial": "3"}
    assert state.outputs["Fingerprint"] == OUTPUTS["Fingerprint"]


def test_a_role_has_no_key_to_rotate(aws: None) -> None:
    """Rotation is refused for `auth=role`, because a role has no access key."""
    make_stack(serial=None)
    save_deployment(auth="role", secret_arn=None)
    with pytest.raises(ConfigurationError, match="callers assume a role"):
        rotate.rotate(select(), quiet())


def test_a_refused_rotation_keeps_the_key(deployed: SelectedDeployment) -> None:
    """If AWS refuses the update, the serial is unchanged."""
    target = SelectedDeployment(deployed.deployment, refusing(deployed.account, "UpdateStack"))
    with pytest.raises(CredentialsError, match=r"could not be updated.*AWS's reason"):
        rotate.rotate(target, quiet())
    assert stacks.require(deployed.account, "lambdiff").parameters == {"KeySerial": "1"}
