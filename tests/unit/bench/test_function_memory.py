"""Changing a function's memory and restoring it, whatever happens (bench/function_memory.py)."""

from __future__ import annotations

import errno
import io
import os
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest

from lambdiff.aws import function as functions
from lambdiff.aws.account import Account
from lambdiff.bench import function_memory
from lambdiff.errors import ConfigurationError, CredentialsError, DeployError
from lambdiff.interrupts import DeferredInterrupt
from lambdiff.stages import Stages
from support.sweep_cloud import COMMAND, Cloud, MakeSweep, interrupt, quiet, yes


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_restore_the_memory(cloud: Cloud, make_sweep: MakeSweep, name: str) -> None:
    """A signal that would end the program restores the memory, too; afterwards the previous handler is back."""
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def stop(size: int, _: int) -> None:
        if size == 2048:
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    cloud.before_image = stop
    with pytest.raises(KeyboardInterrupt):
        make_sweep(2048).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008
    assert signal.getsignal(number) is before


def test_ctrl_c_twice_still_restores(cloud: Cloud, make_sweep: MakeSweep, capfd: pytest.CaptureFixture[str]) -> None:
    """A second Ctrl-C while the memory is being restored is ignored with a message."""
    cloud.before_image = interrupt

    def again(size: int, number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)

    cloud.refuse = again
    with pytest.raises(KeyboardInterrupt):
        make_sweep(2048).run(quiet(), yes)
    assert cloud.memory == 3008
    assert "press Ctrl-C again to abort" in capfd.readouterr().err


def test_ctrl_c_just_before_restoring_restores(
    cloud: Cloud, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory is restored even if Ctrl-C arrives just before the block in which it is ignored."""
    sent: list[int] = []

    class Late(DeferredInterrupt):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "ignore_next" and value and not sent:
                sent.append(signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            super().__setattr__(name, value)

    monkeypatch.setattr(function_memory, "DeferredInterrupt", Late)
    with pytest.raises(KeyboardInterrupt):
        make_sweep(2048).run(quiet(), yes)
    assert sent == [signal.SIGINT]
    assert cloud.images == [3008] * 3 + [2048] * 3
    assert cloud.memory == 3008


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # from rich's refresh thread
@pytest.mark.parametrize(
    ("terminal", "error", "end"),
    [
        (True, OSError(errno.EIO, "the terminal is gone"), KeyboardInterrupt),
        (False, BrokenPipeError("the reader is gone"), KeyboardInterrupt),
        (False, RuntimeError("anything else"), RuntimeError),
    ],
)
def test_the_memory_is_restored_even_if_nothing_can_be_written(
    cloud: Cloud, make_sweep: MakeSweep, terminal: bool, error: Exception, end: type[BaseException]
) -> None:
    """The memory is restored although writing fails, as when closing the terminal also sends SIGHUP."""

    class Stream(io.StringIO):
        gone = False

        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> int:
            if self.gone:
                raise error
            return super().write(text)

    stream = Stream()

    def hang_up(size: int, _: int) -> None:
        if size == 2048:
            stream.gone = True
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)

    cloud.before_image = hang_up
    with pytest.raises(end):
        make_sweep(2048).run(Stages(stream), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008


@pytest.mark.parametrize("method", ["stage", "failed"])
def test_an_interrupted_message_does_not_lose_the_command(cloud: Cloud, make_sweep: MakeSweep, method: str) -> None:
    """If Ctrl-C interrupts a message about restoring the memory, the error still contains the command."""

    class InterruptedStages(Stages):
        current = ""

        def stage(self, name: str) -> None:
            self.current = name
            self.interrupt_in("stage")
            super().stage(name)

        def failed(self) -> None:
            self.interrupt_in("failed")
            super().failed()

        def interrupt_in(self, called: str) -> None:
            if called == method and self.current.startswith("Restoring"):
                raise KeyboardInterrupt

    cloud.refuse = lambda _, number: ("AccessDeniedException", 403) if number > 1 else None
    stages = InterruptedStages(io.StringIO())
    with pytest.raises(DeployError) as caught:
        make_sweep(2048).run(stages, yes)
    assert caught.value.fix == f"Run it yourself: {COMMAND}"


def test_a_third_ctrl_c_aborts_and_prints_the_command(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """The third Ctrl-C ends the run with an error that contains the command that restores the memory."""
    cloud.before_image = interrupt

    def again(size: int, number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    cloud.refuse = again
    sweep = make_sweep(2048)
    with pytest.raises(DeployError, match="interrupted") as caught:
        sweep.run(quiet(), yes)
    assert caught.value.fix == f"Run it yourself: {COMMAND}"
    assert not sweep.report().restored
    assert cloud.memory == 2048


def test_a_memory_that_cannot_be_restored_is_an_error_with_the_command(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If AWS refuses to restore the memory, the error contains the AWS CLI command that restores it."""
    cloud.before_image = interrupt
    cloud.refuse = lambda _, number: ("AccessDeniedException", 403) if number > 1 else None
    sweep = make_sweep(2048)
    with pytest.raises(DeployError, match=r"could not be restored to 3,008 MB: .*not now") as caught:
        sweep.run(quiet(), yes)
    assert caught.value.fix == f"Run it yourself: {COMMAND}"
    assert caught.value.exit_code == 7
    assert cloud.memory == 2048


def test_without_the_permission_nothing_is_changed(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """Without the permission, one update is attempted, and nothing needs to be restored."""
    cloud.refuse = lambda *_: ("AccessDeniedException", 403)
    sweep = make_sweep(2048)
    with pytest.raises(CredentialsError, match=r"could not be changed.*not now"):
        sweep.run(quiet(), yes)
    assert cloud.updates == [2048]
    assert sweep.report().restored


def test_a_server_error_counts_as_a_change(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """After a server error the memory is restored, because the change may have been made."""
    cloud.refuse = lambda _, number: ("ServiceException", 501) if number == 1 else None
    with pytest.raises(DeployError):
        make_sweep(2048).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]


def test_a_conflicting_update_is_retried(cloud: Cloud, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """While AWS refuses a change because another one is in progress, the change is repeated."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waited.append))
    cloud.refuse = lambda _, number: ("ResourceConflictException", 409) if number in (2, 3) else None
    make_sweep(2048).run(quiet(), yes)
    assert cloud.updates == [2048, 3008, 3008, 3008]
    assert waited == [2, 2]
    assert cloud.memory == 3008


def test_a_change_that_fails_later_is_undone(
    cloud: Cloud, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If AWS accepts a change and then reports that it failed, the memory is restored."""
    original = functions.wait_until_updated

    def wait(account: Account, name: str) -> None:
        if cloud.updates == [2048]:
            raise DeployError(f"The update of {name} did not take effect.")
        original(account, name)

    monkeypatch.setattr(functions, "wait_until_updated", wait)
    sweep = make_sweep(2048)
    with pytest.raises(DeployError, match="did not take effect"):
        sweep.run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert sweep.memory.restored


def test_snapstart_is_refused(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """A function with SnapStart is refused: its URL serves a published version, which a new setting does not change."""
    cloud.configuration = {"SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}}
    with pytest.raises(ConfigurationError, match="serves a published version"):
        make_sweep(2048)
    assert (cloud.updates, cloud.images) == ([], [])


def test_a_function_with_an_update_in_progress_is_refused(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """A function with an update in progress is refused, because its current memory may be about to change."""
    cloud.configuration = {"LastUpdateStatus": "InProgress"}
    with pytest.raises(DeployError, match="is in progress"):
        make_sweep(2048)
    assert (cloud.updates, cloud.images) == ([], [])
