"""Replacing the access key of a stack (ops/rotate.py), against a real endpoint that checks signatures."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator

import boto3
import pytest

from lambdiff.aws import stacks
from lambdiff.aws.deployment import SelectedDeployment, select
from lambdiff.client import function_url
from lambdiff.errors import Cancelled, ConfigurationError, CredentialsError, DeployError
from lambdiff.ops import rotate
from lambdiff.ops.rotate import RotateResult
from lambdiff.stages import Stages
from support.aws_resources import make_stack, refusing, save_deployment, stack_states
from support.rotating_cloud import USER, Endpoint, RotatingCloud


class Clock:
    """A clock that only sleeping moves."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def quiet() -> Stages:
    """Return stages on a stream that nothing reads."""
    return Stages(io.StringIO())


def run(target: SelectedDeployment | None = None) -> RotateResult:
    """Rotate the key of the saved deployment, without waiting."""
    clock = Clock()
    return rotate.rotate(target or select(), quiet(), sleep=clock.sleep, clock=clock)


@pytest.fixture
def endpoint(aws: None, default_signal_handlers: None) -> Iterator[Endpoint]:
    """An endpoint that needs four requests to know of a change."""
    with Endpoint(spread=4, linger=4) as running:
        yield running


@pytest.fixture
def cloud(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> RotatingCloud:
    """The account of the endpoint."""
    return RotatingCloud(endpoint).install(monkeypatch)


def test_the_new_key_is_tried_and_the_old_one_seen_gone(cloud: RotatingCloud, endpoint: Endpoint) -> None:
    """The new key is tried until it is accepted, and only then the old one is deleted, until it is refused."""
    old = cloud.keys.access_key_id
    result = run()
    assert (result.serial, result.new_key, result.old_key, result.notes) == (2, "accepted", "refused", [])
    new = cloud.keys.access_key_id
    assert cloud.key_ids == {new} != {old}
    assert endpoint.answers == [*[(new, 403)] * 4, (new, 200), *[(old, 200)] * 4, (old, 403)]


def test_each_rotation_raises_the_serial_by_one(cloud: RotatingCloud) -> None:
    """Each rotation raises the stack's `KeySerial` parameter by one."""
    assert run().serial == 2
    assert run().serial == 3
    assert stacks.require(select().account, "lambdiff").parameters == {"KeySerial": "3"}


def test_a_key_that_is_never_accepted_is_taken_back(cloud: RotatingCloud, endpoint: Endpoint) -> None:
    """If the endpoint refuses the new key, the update is cancelled, and the old key stays."""
    old = cloud.keys
    endpoint.spread, cloud.monitoring = 10_000, 10_000
    with pytest.raises(DeployError, match="refused the new key for 50 s, so the rotation was undone") as caught:
        run()
    assert "old key is still valid" in caught.value.fix
    assert cloud.keys == old
    assert cloud.key_ids == {old.access_key_id}


def test_a_key_that_is_accepted_too_late_for_a_return_is_waited_for(cloud: RotatingCloud, endpoint: Endpoint) -> None:
    """If the update can no longer be cancelled, the new key is tried for longer; then the failure is reported."""
    endpoint.spread, cloud.monitoring, cloud.cancellable = 40, 10_000, False
    assert run().new_key == "accepted"
    endpoint.spread = 10_000
    with pytest.raises(DeployError, match="the endpoint refuses the new one"):
        run()


def test_an_old_key_that_stays_valid_is_an_error(cloud: RotatingCloud, endpoint: Endpoint) -> None:
    """If AWS goes on accepting the old key, this is reported, with the end of the key's id."""
    endpoint.linger, old = 10_000, cloud.keys.access_key_id
    with pytest.raises(DeployError, match=rf"still accepts the old one \(\.\.\.{old[-4:]}\)"):
        run()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failing_endpoint_accepts_a_key(
    cloud: RotatingCloud, endpoint: Endpoint, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reply but a 403 has passed the check of the signature."""
    monkeypatch.setattr(function_url, "ATTEMPTS", 1)
    endpoint.status, endpoint.spread, endpoint.linger = status, 0, 0
    result = run()
    assert (result.new_key, result.old_key) == ("accepted", "refused")


def test_a_key_can_be_replaced_without_reaching_the_endpoint(
    cloud: RotatingCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leaked key must go even if the endpoint cannot be asked; the result says that nothing was tried."""
    monkeypatch.setattr(function_url, "ATTEMPTS", 1)
    make_stack(outputs={"LambdaUrl": "http://127.0.0.1:9/", "SecretArn": cloud.secret})
    old = cloud.keys.access_key_id
    result = run()
    assert (result.new_key, result.old_key) == ("unknown", "unknown")
    assert "could not be tried" in result.notes[0]
    assert old not in cloud.key_ids


def test_a_secret_without_a_key_gets_one(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` advises a rotation if the secret is damaged; there is no old key to try then."""
    cloud = RotatingCloud(endpoint, secret_text="damaged").install(monkeypatch)
    result = run()
    assert (result.new_key, result.old_key) == ("accepted", "unknown")
    assert cloud.keys.access_key_id in cloud.key_ids


def test_a_second_key_is_reported_before_anything_changes(cloud: RotatingCloud) -> None:
    """IAM allows two keys a user: the message has the command that deletes the one that is not lambdiff's."""
    second = boto3.client("iam").create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"]
    with pytest.raises(ConfigurationError, match="has a second access key") as caught:
        run()
    assert f"aws iam delete-access-key --user-name {USER} --access-key-id {second}" in caught.value.fix
    assert cloud.status == ""


def test_without_permission_to_list_keys_the_key_is_replaced(cloud: RotatingCloud) -> None:
    """Looking for a second key is a courtesy; CloudFormation reports one as well."""
    target = select()
    blind = SelectedDeployment(target.deployment, refusing(target.account, "GetAccessKeyLastUsed"))
    assert run(blind).old_key == "refused"


def test_a_rolled_back_update_keeps_the_key(cloud: RotatingCloud) -> None:
    """If CloudFormation cannot create the key, the old one is valid."""
    cloud.failing, old = True, cloud.keys
    with pytest.raises(DeployError, match="did not succeed: UPDATE_ROLLBACK_COMPLETE") as caught:
        run()
    assert "old key is still valid" in caught.value.fix
    assert cloud.key_ids == {old.access_key_id}


def test_a_role_has_no_key_to_rotate(aws: None) -> None:
    """Rotation is refused for `auth=role`, because a role has no access key."""
    make_stack(serial=None)
    save_deployment(auth="role", secret_arn=None)
    with pytest.raises(ConfigurationError, match="callers assume a role"):
        rotate.rotate(select(), quiet())


def test_a_refused_rotation_keeps_the_key(cloud: RotatingCloud) -> None:
    """If AWS refuses the update, the serial is unchanged."""
    target = select()
    with pytest.raises(CredentialsError, match=r"could not be updated.*AWS's reason\n.*old key is still valid"):
        run(SelectedDeployment(target.deployment, refusing(target.account, "UpdateStack")))
    assert (cloud.serial, cloud.status) == (1, "")


def test_a_broken_stack_is_reported(cloud: RotatingCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that cannot be updated is reported with the command that repairs it."""
    stack_states(monkeypatch, "UPDATE_ROLLBACK_FAILED")
    with pytest.raises(DeployError, match="cannot be updated") as caught:
        run()
    assert "continue-update-rollback" in caught.value.fix


@pytest.mark.parametrize(
    ("number", "look"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGHUP, 2), (signal.SIGINT, 4), (signal.SIGTERM, 5)],
)
def test_an_interrupted_rotation_can_be_repeated(cloud: RotatingCloud, number: signal.Signals, look: int) -> None:
    """Whenever it is interrupted, AWS finishes the replacement; the next run waits, and leaves one valid key."""

    def interrupt(looks: int) -> None:
        if looks == look:
            os.kill(os.getpid(), number)

    cloud.calls = interrupt
    with pytest.raises(Cancelled, match="CloudFormation finishes replacing the key by itself") as caught:
        run()
    assert "run `lambdiff rotate` again" in caught.value.fix
    cloud.calls = lambda _: None
    result = run()
    assert (result.new_key, result.old_key, result.serial) == ("accepted", "refused", 3)
    assert cloud.key_ids == {cloud.keys.access_key_id}


def test_an_interrupt_before_the_update_changes_nothing(cloud: RotatingCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is interrupted while it reads has not replaced the key."""
    target = select()

    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(rotate, "_check_second_key", interrupt)
    with pytest.raises(Cancelled, match="the key was not replaced"):
        run(target)
    assert cloud.status == ""
