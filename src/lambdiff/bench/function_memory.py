"""Changes the memory of a deployed function temporarily, and restores it even after errors and interrupts."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from typing import Final

from lambdiff.aws import function as functions
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.aws.error_mapping import Conflict, InvalidValue, Rejected
from lambdiff.aws.function import Function
from lambdiff.errors import ConfigurationError, CredentialsError, DeployError, LambdiffError
from lambdiff.interrupts import DeferredInterrupt
from lambdiff.stages import Stages

CONFLICT_TIMEOUT: Final = 120.0
"""Seconds to wait for an earlier update of the function, for example from an interrupted run."""


class MemoryNotAllowed(DeployError):
    """The account may not have functions with this much memory."""


class FunctionMemory:
    """The memory of a deployment's function, which can be changed and restored.

    Args:
        target: the deployment.

    Attributes:
        function: the function before any change.
        restored: whether the function has its original memory.

    Raises:
        ConfigurationError: the endpoint serves a published version (SnapStart), whose memory cannot be changed.
        CredentialsError, DeployError: the function cannot be read, or is being updated.

    Example:
        >>> memory = FunctionMemory(select())  # doctest: +SKIP
        >>> memory.restore_after(lambda: memory.set(2048), Stages())  # doctest: +SKIP
    """

    def __init__(self, target: SelectedDeployment) -> None:
        self.function = _read_changeable(target)
        self.restored = True
        self._account = target.account

    def set(self, memory_mb: int) -> None:
        """Set the memory and wait until it is in effect.

        Raises:
            MemoryNotAllowed: the account may not have functions with this much memory.
            CredentialsError: a permission is missing.
            DeployError: the update failed.
        """
        restored, self.restored = self.restored, False
        try:
            self._request(memory_mb)
        except (Rejected, CredentialsError) as error:
            self.restored = restored  # AWS rejected the call, so nothing has changed
            if isinstance(error, InvalidValue):
                raise MemoryNotAllowed(
                    f"AWS says: {error.reason}", fix="Leave out this memory size, or ask AWS Support for more memory."
                ) from None
            raise
        functions.wait_until_updated(self._account, self.function.name)

    def restore_after(self, work: Callable[[], None], stages: Stages) -> None:
        """Call `work`, which may `set` the memory, then restore it, even after an error, Ctrl-C or SIGTERM.

        Args:
            work: a function rather than the block of a context manager, because a signal between the end of a block
                and the call of `__exit__` would prevent the restoration.
            stages: shows the progress.

        Raises:
            DeployError: the memory could not be restored; the fix is the AWS CLI command that does it.
        """
        with DeferredInterrupt("Restoring memory; press Ctrl-C again to abort.") as interrupts:
            try:
                try:
                    work()
                except BaseException:
                    stages.failed()
                    if not self.restored:
                        stages.say(f"Restoring the memory of {self.function.name}: {self.function.memory_mb:,} MB.")
                    raise
                finally:
                    interrupts.ignore_next = True
            finally:  # separate, because a signal may arrive before the line above has run
                if not self.restored:
                    self._restore(stages)

    def _request(self, memory_mb: int) -> None:
        from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

        retrying = Retrying(
            retry=retry_if_exception_type(Conflict),
            wait=wait_fixed(2),
            stop=stop_after_delay(CONFLICT_TIMEOUT),
            reraise=True,
        )
        retrying(functions.set_memory, self._account, self.function.name, memory_mb)

    def _restore(self, stages: Stages) -> None:
        original = self.function.memory_mb
        try:
            with contextlib.suppress(Exception):  # an output error must not prevent the restoration
                stages.stage(f"Restoring {original:,} MB")
            self.set(original)
        except BaseException as error:
            failure = self._not_restored(error)
            try:
                stages.failed()
            finally:
                raise failure from None
        self.restored = True
        stages.done()

    def _not_restored(self, error: BaseException) -> DeployError:
        """Return the error, with the command to restore the memory manually."""
        name, original, account = self.function.name, self.function.memory_mb, self._account
        reason = error.message if isinstance(error, LambdiffError) else str(error)
        command = ["aws", "lambda", "update-function-configuration", "--function-name", name]
        command += ["--memory-size", str(original), "--region", account.region.value]
        if account.profile:
            command += ["--profile", account.profile]
        return DeployError(
            f"The memory of {name} could not be restored to {original:,} MB: {reason or 'interrupted'}",
            fix=f"Run it yourself: {shlex.join(command)}",
        )


def _read_changeable(target: SelectedDeployment) -> Function:
    function = target.read_function()
    if function.snapstart:
        raise ConfigurationError(
            f"{function.name} has SnapStart: its URL serves a published version, whose memory cannot be changed.",
            fix="Measure one size at a time: `lambdiff deploy --snapstart --memory MB`, then `lambdiff bench`.",
        )
    if function.updating:
        raise DeployError(
            f"An update of {function.name} is in progress.",
            fix="Wait until it is complete; `lambdiff status` shows its state.",
        )
    return function
