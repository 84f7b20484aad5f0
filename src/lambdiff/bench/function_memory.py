"""A function's memory setting, changed for a while and then set as it was, whatever happened in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lambdiff import pricing
from lambdiff.aws import account as accounts
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.bench.interrupts import Stopping
from lambdiff.errors import ConfigurationError, DeployError, LambdiffError
from lambdiff.stages import Stages

_BUSY: Final = 120.0
_TOO_LARGE: Final = frozenset({"ValidationException", "InvalidParameterValueException"})


class NotAllowed(DeployError):
    """The account may not have this much memory."""


@dataclass(frozen=True)
class Function:
    """What a function is before anything is changed."""

    memory_mb: int
    timeout_s: int
    tmp_mb: int
    architecture: str

    @classmethod
    def read(cls, target: SelectedDeployment) -> Function:
        """Ask AWS.

        Raises:
            ConfigurationError: the endpoint serves a published version (SnapStart), which no setting reaches.
            CredentialsError, DeployError: the function cannot be read, or is being changed.
        """
        from botocore.exceptions import ClientError

        name = target.function
        try:
            found = target.account.client("lambda").get_function_configuration(FunctionName=name)
        except ClientError as error:
            raise accounts.refused(error, f"The function {name}") from None
        if found.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions":
            raise ConfigurationError(
                f"{name} has SnapStart: its URL serves a published version, whose memory cannot be changed.",
                fix="Measure one memory at a time: lambdiff deploy --snapstart --memory MB, then lambdiff bench.",
            )
        if found.get("LastUpdateStatus") == "InProgress":
            raise DeployError(f"{name} is being changed.", fix="Wait until that is done: `lambdiff status`.")
        return cls(
            memory_mb=found["MemorySize"],
            timeout_s=found["Timeout"],
            tmp_mb=found.get("EphemeralStorage", {}).get("Size", 512),
            architecture=found.get("Architectures", ["x86_64"])[0],
        )

    def price(self, memory_mb: int, seconds: float) -> float:
        """Dollars of one request of so many billed seconds, with so much memory."""
        return pricing.invocation(memory_mb, seconds, architecture=self.architecture, tmp_mb=self.tmp_mb)


class Memory:
    """The memory of a deployment's function.

    Attributes:
        restored: whether the function has the memory that it had.

    Args:
        target: the deployment.
        was: the MB that it has now.
    """

    def __init__(self, target: SelectedDeployment, was: int) -> None:
        self.restored = True
        self._target = target
        self._was = was
        self._lambda = target.account.client("lambda")

    def set(self, size: int) -> None:
        """Set `size` MB and wait until they are in effect.

        Raises:
            NotAllowed: AWS does not let the account have so much.
            CredentialsError: the memory may not be changed.
            DeployError: the change failed.
        """
        from botocore.exceptions import ClientError, WaiterError
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

        name = self._target.function
        # A change before this one, perhaps ours that was interrupted, may still be under way.
        busy = retry_if_exception(
            lambda error: isinstance(error, ClientError) and accounts.code(error) == "ResourceConflictException"
        )
        restored, self.restored = self.restored, False
        try:
            for attempt in Retrying(retry=busy, wait=wait_fixed(2), stop=stop_after_delay(_BUSY), reraise=True):
                with attempt:
                    self._lambda.update_function_configuration(FunctionName=name, MemorySize=size)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) < 500:
                self.restored = restored  # refused: all is as it was
            if accounts.code(error) in _TOO_LARGE:
                raise NotAllowed(
                    f"AWS says: {accounts.code(error)}: {accounts.message(error)}",
                    fix="Ask AWS for more memory, or leave that size out.",
                ) from None
            raise accounts.refused(error, f"The memory of {name}", "changed") from None
        try:
            self._lambda.get_waiter("function_updated_v2").wait(FunctionName=name)
        except WaiterError as error:
            raise DeployError(
                f"{name} did not take {size:,} MB: {error}.", fix="Try again; `lambdiff status` shows its state."
            ) from None

    def restore_after(self, work: Callable[[], None], report: Stages) -> None:
        """Do `work`, which may `set` the memory, then set it as it was: after an error, Ctrl-C and SIGTERM, too.

        Args:
            work: called, and not the block of a context manager, whose end a signal on the way there would skip.
            report: hears about it.

        Raises:
            DeployError: it could not be set as it was; the message has the command that does it.
        """
        with Stopping("The memory is being set as it was; once more gives that up.") as stopping:
            try:
                try:
                    work()
                except BaseException:
                    report.failed()
                    raise
                finally:
                    stopping.patient = True
            finally:  # another one, because a signal may come before the line above is done
                if not self.restored:
                    self._restore(report)

    def _restore(self, report: Stages) -> None:
        was, function, account = self._was, self._target.function, self._target.account
        try:
            with contextlib.suppress(Exception):  # whatever becomes of the words, the memory is what counts
                report.stage(f"Setting the memory to {was:,} MB again")
            self.set(was)
        except BaseException as error:
            why = error.message if isinstance(error, LambdiffError) else str(error)
            failure = DeployError(
                f"The memory of {function} could not be set to {was:,} MB again: {why or 'it was interrupted'}",
                fix=f"Do it: aws lambda update-function-configuration --function-name {function} "
                f"--memory-size {was} --region {account.region.value}"
                + (f" --profile {account.profile}" if account.profile else ""),
            )
            try:
                report.failed()
            finally:
                raise failure from None
        self.restored = True
        report.done()
