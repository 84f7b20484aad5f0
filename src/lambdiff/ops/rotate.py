"""`lambdiff rotate`: replace the invoker's access key.

This is a stack update that changes one parameter. It needs neither the CDK nor the image, so any machine can do it.

    CloudFormation creates the new key and writes it to the secret
        the endpoint must accept the new key, otherwise the update is cancelled, which keeps the old one
    CloudFormation deletes the old key, a minute later
        the endpoint must refuse the old key

Clients that have the old key are served until it is deleted. Refused, they read the secret again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import Struct

from lambdiff.auth.credentials import Keys
from lambdiff.aws import access, outputs, stacks
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.aws.error_mapping import Rejected
from lambdiff.aws.stacks import StackState
from lambdiff.errors import (
    AccessDenied,
    Cancelled,
    ConfigurationError,
    CredentialsError,
    DeployError,
    EndpointFailed,
    EndpointRefused,
    LambdiffError,
)
from lambdiff.infra import existing_stack
from lambdiff.interrupts import DeferredInterrupt
from lambdiff.stages import Stages

KEEP_OLD_MINUTES: Final = 1
"""How long CloudFormation keeps the old key after it has created the new one."""
TRIAL: Final = 50.0
"""Seconds in which the endpoint must accept the new key. It ends before CloudFormation deletes the old one."""
SPREAD: Final = 120.0
"""Seconds after which all of AWS knows of a new or a deleted key."""
_POLL: Final = 2.0

Answer = Literal["accepted", "refused", "unknown"]
Probe = Callable[[Keys], Answer]


class RotateResult(Struct, frozen=True, kw_only=True):
    """The new key, as `lambdiff rotate --json` prints it.

    Attributes:
        serial: the key's number; the first key of a deployment is number 1.
        secret: the ARN of the secret that contains it.
        new_key, old_key: how the endpoint answered them at the end; `unknown` if it could not be asked.
        notes: why it could not be asked.
    """

    name: str
    stack: str
    serial: int
    secret: str
    new_key: Answer
    old_key: Answer
    notes: list[str]


@dataclass
class _Rotation:
    """One rotation in progress."""

    account: Account
    state: StackState
    stages: Stages
    probe: Probe
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    serial: int
    secret: str
    old: Keys | None
    started: bool = False
    notes: list[str] = field(default_factory=list)

    def run(self) -> tuple[Answer, Answer]:
        """Replace the key; return how the endpoint answers the new and the old one."""
        self.stages.stage("Creating the new key")
        self._start()
        new = self._wait_for_new_key()
        new_answer: Answer = "unknown"
        if new is not None:
            self.stages.stage("Trying the new key")
            new_answer = self._ask_until("accepted", new, TRIAL)
            if new_answer == "refused":
                self._undo()
                new_answer = self._ask_until("accepted", new, SPREAD)
        self.stages.stage("Deleting the old key")
        self._finish()
        if new_answer == "refused":
            raise DeployError(
                "The key was replaced, but the endpoint refuses the new one.", fix="`lambdiff doctor` finds out why."
            )
        if self.old is None:
            self.notes.append("The secret contained no key pair before, so no old key could be tried.")
            return new_answer, "unknown"
        self.stages.stage("Checking that the old key is refused")
        old_answer = self._ask_until("refused", self.old, SPREAD)
        if old_answer == "accepted":
            raise DeployError(
                f"The key was replaced, but AWS still accepts the old one (...{self.old.access_key_id[-4:]}) "
                f"{SPREAD:.0f} s after its deletion.",
                fix="Look for it in the IAM console, and deactivate it there if it still exists.",
            )
        return new_answer, old_answer

    def _start(self) -> None:
        self.started = True  # already now, because an interrupted call may have been received
        changes = {outputs.KEY_SERIAL: str(self.serial)}
        try:
            stacks.start_update(self.account, self.state, changes, keep_old_minutes=KEEP_OLD_MINUTES)
        except (CredentialsError, Rejected):
            self.started = False
            raise

    def _wait_for_new_key(self) -> Keys | None:
        """Return the new key when it is in the secret; None if the update ends without one."""
        while True:
            state = stacks.read(self.account, self.state.name)
            found = access.read_key_pair(self.account, self.secret)
            if found is not None and found != self.old:
                return found
            if state is None or not state.changing:
                return None
            self.stages.detail(state.status)
            self.sleep(_POLL)

    def _ask_until(self, wanted: Answer, keys: Keys, seconds: float) -> Answer:
        """Ask the endpoint until it answers as wanted, or cannot be asked; return its last answer."""
        deadline = self.clock() + seconds
        while True:
            answer = self.probe(keys)
            if answer in (wanted, "unknown") or self.clock() > deadline:
                return answer
            self.stages.detail(f"still {answer}, until the change reaches all of AWS")
            self.sleep(_POLL)

    def _undo(self) -> None:
        """Cancel the update, which restores the old key.

        Raises:
            DeployError: it was cancelled. If it no longer can be, nothing is raised.
        """
        if not stacks.cancel_update(self.account, self.state.name):
            return
        self.stages.stage("Restoring the old key")
        stacks.wait_until_idle(self.account, self.state.name, sleep=self.sleep)
        raise DeployError(
            f"The endpoint refused the new key for {TRIAL:.0f} s, so the rotation was undone.",
            fix=f"{_STILL_VALID} `lambdiff doctor` finds out why a key is refused.",
        )

    def _finish(self) -> None:
        state = stacks.wait_until_idle(
            self.account, self.state.name, seen=lambda each: self.stages.detail(each.status), sleep=self.sleep
        )
        if state is None or not state.stable or state.parameters.get(outputs.KEY_SERIAL) != str(self.serial):
            raise DeployError(
                f"The update of the stack {self.state.name} did not succeed: {state}"
                f"{stacks.describe_failures(self.account, self.state.name)}",
                fix=f"Fix what AWS names, then try again. {_STILL_VALID}",
            )


def rotate(
    target: SelectedDeployment,
    stages: Stages,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> RotateResult:
    """Replace the invoker's access key.

    If it is interrupted, CloudFormation finishes the replacement; running it again replaces the key once more.

    Args:
        target: the deployment.
        stages: shows the progress.
        sleep: waits for the given seconds.
        clock: seconds, monotonic.

    Raises:
        Cancelled: it was interrupted by Ctrl-C, SIGTERM or SIGHUP; the message says what happens in AWS.
        ConfigurationError: the deployment has no key, or its user has a second one, so that IAM allows no third.
        CredentialsError: a permission is missing; nothing has changed.
        DeployError: CloudFormation refused the update or rolled it back, or the endpoint does not answer the keys as it
            should; the message says which key is valid.
    """
    rotation: _Rotation | None = None
    try:
        rotation = _prepare(target, stages, sleep, clock)
        # Deferred from here on, where AWS is changed: until then, a signal may end the program at once.
        with DeferredInterrupt("Ending in an orderly way; press Ctrl-C again to abort."):
            try:
                new_answer, old_answer = rotation.run()
            except KeyboardInterrupt:
                raise _interrupted(rotation) from None
    except KeyboardInterrupt:
        stages.failed()
        raise _interrupted(None) from None
    except LambdiffError as error:
        stages.failed()
        if rotation and not rotation.started:
            error.fix = f"{error.fix} {_STILL_VALID}".strip()
        raise
    stages.done()
    return RotateResult(
        name=target.deployment.value.name,
        stack=rotation.state.name,
        serial=rotation.serial,
        secret=rotation.secret,
        new_key=new_answer,
        old_key=old_answer,
        notes=rotation.notes,
    )


def _prepare(
    target: SelectedDeployment, stages: Stages, sleep: Callable[[float], None], clock: Callable[[], float]
) -> _Rotation:
    deployment, account = target.deployment.value, target.account
    stages.stage("Reading the stack")
    state = stacks.require_for(account, deployment)
    if state.changing:
        stages.stage("Waiting for an earlier change of the stack")
        state = stacks.wait_until_idle(account, state.name, sleep=sleep) or state
    if outputs.KEY_SERIAL not in state.parameters:
        raise ConfigurationError(
            f"The stack {state.name} has no access key, because callers assume a role.",
            fix="There is no key to rotate.",
        )
    if not state.stable:
        raise existing_stack.cannot_be_updated(account, state)
    secret = state.outputs.get(outputs.SECRET_ARN, "")
    old = access.read_key_pair(account, secret)
    if old is not None:
        _check_second_key(account, old)
    notes: list[str] = []
    url = state.outputs.get(outputs.URL, deployment.url)
    return _Rotation(
        account=account,
        state=state,
        stages=stages,
        probe=lambda keys: _probe(url, account.region.value, keys, notes),
        sleep=sleep,
        clock=clock,
        serial=int(state.parameters[outputs.KEY_SERIAL]) + 1,
        secret=secret,
        old=old,
        notes=notes,
    )


def _check_second_key(account: Account, old: Keys) -> None:
    others = access.other_keys(account, old.access_key_id)
    if others.ids:
        raise ConfigurationError(
            f"The user {others.user} has a second access key, {others.ids[0]}, which is not lambdiff's. IAM allows two "
            "keys a user, so a new one cannot be created.",
            fix="If nobody needs it, delete it: `aws iam delete-access-key "
            f"--user-name {others.user} --access-key-id {others.ids[0]}`",
        )


def _probe(url: str, region: str, keys: Keys, notes: list[str]) -> Answer:
    """Ask the endpoint for its health, signed with a key pair. Any answer but a 403 means that the key is accepted."""
    from lambdiff.client.client import Client

    try:
        with Client(url, region=region, credentials=keys) as client:
            client.health()
    except AccessDenied:
        return "refused"
    except (EndpointRefused, EndpointFailed) as error:
        if error.status is None:
            notes.append(f"The keys could not be tried: {error.message}")
            return "unknown"
    except LambdiffError as error:
        notes.append(f"The keys could not be tried: {error.message}")
        return "unknown"
    return "accepted"


def _interrupted(rotation: _Rotation | None) -> Cancelled:
    if rotation is None or not rotation.started:
        return Cancelled("Interrupted; the key was not replaced.")
    return Cancelled(
        "Interrupted; CloudFormation finishes replacing the key by itself, and clients pick up the new one.",
        fix="`lambdiff status` shows the stack and the key's serial, which becomes "
        f"{rotation.serial}. If in doubt, run `lambdiff rotate` again: it waits, then replaces the key once more.",
    )


_STILL_VALID: Final = "The old key is still valid."
