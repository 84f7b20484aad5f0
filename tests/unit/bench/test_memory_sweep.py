"""memory_sweep.py, billed_log.py and function_memory.py, on a function in moto whose clock depends on its memory."""

from __future__ import annotations

import dataclasses
import errno
import functools
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import boto3
import click
import pytest
from click.testing import CliRunner

from lambdiff import pricing
from lambdiff.aws import function as functions
from lambdiff.aws import logs
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import select
from lambdiff.bench import function_memory
from lambdiff.bench.billed_log import by_seed
from lambdiff.bench.interrupts import DeferredInterrupt
from lambdiff.bench.memory_sweep import MemorySweep
from lambdiff.bench.plan import make_plan
from lambdiff.bench.stats import Stats
from lambdiff.cli import cli
from lambdiff.client import progress
from lambdiff.client.client import Client
from lambdiff.errors import (
    Cancelled,
    ConfigurationError,
    CredentialsError,
    DeployError,
    EndpointFailed,
    Throttled,
)
from lambdiff.handler.app import App
from lambdiff.protocol import headers
from lambdiff.protocol.http import HttpRequest, HttpResponse, OnStep
from lambdiff.stages import Stages
from support.aws_resources import OUTPUTS, REGION, make_function, make_logs, make_stack, save_deployment
from support.stub_engine import StubEngine

MakeSweep = Callable[..., MemorySweep]

FUNCTION, GROUP = OUTPUTS["FunctionName"], OUTPUTS["LogGroup"]
BILLED = {2048: 2.5, 3008: 2.0, 10_240: 1.0}
"""Billed seconds of an image at each memory size: 5, 5.875 and 10 GB-seconds."""
HANDLER_SECONDS = 0.75
"""The sum of the phases in the handler's timings."""
NETWORK, COLD = 0.1, 4.0
"""Seconds that a caller waits in addition: for each image, and for the first one of an environment."""
CAP = "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 3008"
COMMAND = f"aws lambda update-function-configuration --function-name {FUNCTION} --memory-size 3008 --region {REGION}"


@functools.cache
def aws_client(service: str) -> Any:
    """Return a cached client that is not subject to the faults in `Cloud`."""
    return boto3.client(service, REGION, aws_access_key_id="FOOBARKEY", aws_secret_access_key="FOOBARSECRET")


@dataclass
class Cloud:
    """A simulated deployment: records what happened, and says what goes wrong.

    Attributes:
        now: the caller's clock in seconds.
        updates: every memory size that was requested, in order.
        images: the memory size that generated each image, in order.
        refuse: called with (size, number of the update); returns (code, HTTP status) of AWS's refusal, or None.
        configuration: overrides the function's configuration; moto supports no SnapStart and is never busy.
        before_image: called with (size, number of the image at this size) before an image is generated.
        reported: whether Lambda writes REPORT lines to the log.
        reported_memory: called with the size; returns the size in the REPORT line.
    """

    now: float = 0.0
    updates: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    refuse: Callable[[int, int], tuple[str, int] | None] = lambda *_: None
    before_image: Callable[[int, int], None] = lambda *_: None
    configuration: dict[str, Any] = field(default_factory=dict)
    reported: bool = True
    reported_memory: Callable[[int], int] = lambda size: size

    @property
    def memory(self) -> int:
        """The function's memory in MB."""
        return int(aws_client("lambda").get_function_configuration(FunctionName=FUNCTION)["MemorySize"])

    def after_reading(self, parsed: dict[str, Any], **_: Any) -> None:
        """Handle botocore's event for a reply."""
        parsed["Configuration"].update(self.configuration)

    def before_update(self, params: dict[str, Any], **_: Any) -> Any:
        """Handle botocore's event before a request is sent; a returned reply replaces AWS's."""
        size = json.loads(params["body"])["MemorySize"]
        self.updates.append(size)
        refusal = self.refuse(size, len(self.updates))
        if refusal is None:
            return None
        code, status = refusal
        error = {"Code": code, "Message": CAP if code == "ValidationException" else "not now"}
        return SimpleNamespace(status_code=status), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.fixture(autouse=True)
def default_signal_handlers() -> Iterator[None]:
    """Handle signals as in a terminal, even if the tests were started with some ignored, as by nohup."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def cloud(aws: None, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A deployment with 3,008 MB whose endpoint is this process."""
    make_stack()
    make_function()
    make_logs()
    save_deployment(memory_mb=3008, architecture="x86_64")
    cloud = Cloud()
    original = Account.client

    def client(self: Account, service: str) -> Any:
        client = original(self, service)
        client.meta.events.register("before-call.lambda.UpdateFunctionConfiguration", cloud.before_update)
        client.meta.events.register("after-call.lambda.GetFunction", cloud.after_reading)
        return client

    monkeypatch.setattr(Account, "client", client)
    monkeypatch.setattr("lambdiff.client.client.Client", lambda **_: Client(transport=Environment(cloud)))
    return cloud


class Environment:
    """A transport to moto's function, with a new environment for each memory size."""

    url = OUTPUTS["LambdaUrl"]

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._apps: dict[int, App] = {}

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        size = self.cloud.memory
        if size not in self._apps:
            self._apps = {size: App(StubEngine, write_log=self.write)}
        if method == "POST":
            self.cloud.images.append(size)
            self.cloud.before_image(size, self.cloud.images.count(size))
        request = HttpRequest(
            method, headers={"content-type": "application/json"}, body=body, request_id=os.urandom(8).hex()
        )
        reply = self._apps[size].handle(request, on_step)
        if method == "POST":
            cold = "load" in headers.decode_timings(reply.headers[headers.TIMING_HEADER])
            self.cloud.now += BILLED[size] + NETWORK + (COLD if cold else 0)
            timings = headers.encode_timings({"denoise": HANDLER_SECONDS, **({"load": COLD} if cold else {})})
            reply = dataclasses.replace(reply, headers={**reply.headers, headers.TIMING_HEADER: timings})
            if self.cloud.reported:
                billed, memory = BILLED[size] * 1000, self.cloud.reported_memory(size)
                put(f"REPORT RequestId: {request.request_id}\tBilled Duration: {billed} ms\tMemory Size: {memory} MB")
        return reply

    def write(self, entry: dict[str, Any]) -> None:
        """Write a line of the handler to the log."""
        put(json.dumps(entry))

    def close(self) -> None:
        """Nothing to release."""


def put(message: str) -> None:
    """Write a line to the function's log."""
    event = {"timestamp": int(time.time() * 1000), "message": message}
    aws_client("logs").put_log_events(logGroupName=GROUP, logStreamName="one", logEvents=[event])


@pytest.fixture
def make_sweep(cloud: Cloud) -> MakeSweep:
    """A function that makes a sweep on the cloud's clock that has not run yet."""

    def make_sweep(*sizes: int) -> MemorySweep:
        client = Client(transport=Environment(cloud))
        plan = make_plan(client, steps=[1])
        clock = lambda: cloud.now  # noqa: E731
        return MemorySweep(select(), client, plan, sizes, rounds=2, clock=clock, log_patience=0.0)

    return make_sweep


def quiet() -> Stages:
    """Return stages on a stream that nothing reads."""
    return Stages(io.StringIO())


def yes(_: str) -> bool:
    """Answer yes."""
    return True


def test_the_cheapest_and_the_fastest_setting_are_reported(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """Each setting is priced by its billed duration and compared with the current one, which is restored."""
    sweep = make_sweep(10_240, 2048)
    sweep.run(quiet(), yes)
    assert cloud.updates == [2048, 10_240, 3008]
    assert cloud.memory == 3008
    assert cloud.images == [3008] * 3 + [2048] * 3 + [10_240] * 3
    report = sweep.report()
    assert (report.current_memory_mb, report.restored) == (3008, True)
    assert (report.cheapest_memory_mb, report.fastest_memory_mb) == (2048, 10_240)
    assert [each.memory_mb for each in report.settings] == [2048, 3008, 10_240]
    assert [each.current for each in report.settings] == [False, True, False]
    for each in report.settings:
        assert (each.billed_seconds, each.billed_source, each.images) == (BILLED[each.memory_mb], "log", 2)
        assert each.dollars_per_image == pricing.invocation(each.memory_mb, BILLED[each.memory_mb])
        waited = BILLED[each.memory_mb] + NETWORK
        assert each.cold_start_seconds == pytest.approx(waited + COLD)
        assert each.latency_seconds == Stats(median=waited, min=waited, max=waited)
        assert each.error is None
    assert [each.relative_latency for each in report.settings] == [1.238, 1.0, 0.524]  # 2.6, 2.1 and 1.1 s
    assert [each.relative_cost for each in report.settings] == [
        0.851,
        1.0,
        1.701,
    ]  # 5, 5.875 and 10 GB-s, and each a request
    assert report.notes == []


def test_a_setting_above_the_accounts_limit_is_reported(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """A memory size that AWS refuses is reported with AWS's message, and the other settings are measured."""
    cloud.refuse = lambda size, _: ("ValidationException", 400) if size > 3008 else None
    sweep = make_sweep(2048, 10_240)
    sweep.run(quiet(), yes)
    small, current, large = sweep.report().settings
    assert large.error == f"AWS says: ValidationException: {CAP}"
    assert large.fix == "Leave out this memory size, or ask AWS Support for more memory."
    assert [(size, error.exit_code) for size, error in sweep.errors.items()] == [(10_240, 7)]
    assert (large.latency_seconds, large.dollars_per_image, large.relative_latency) == (None, None, None)
    assert (small.images, current.images) == (2, 2)
    assert sweep.report().cheapest_memory_mb == 2048
    assert cloud.memory == 3008


def test_a_setting_with_too_little_memory_is_reported(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """A function that crashes at one setting is measured at the others."""

    def crash(size: int, _: int) -> None:
        if size == 2048:
            raise EndpointFailed("The function ended before it answered.")

    cloud.before_image = crash
    sweep = make_sweep(2048, 10_240)
    sweep.run(quiet(), yes)
    small, _, large = sweep.report().settings
    assert (small.error, small.images) == ("The function ended before it answered.", 0)
    assert large.images == 2
    assert cloud.images.count(2048) == 1
    assert [error.exit_code for error in sweep.errors.values()] == [5]
    assert cloud.memory == 3008


def test_nothing_measured_is_an_error(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If all settings fail, the first error is raised and the memory is restored."""

    def crash(size: int, _: int) -> None:
        raise EndpointFailed(f"broken at {size}")

    cloud.before_image = crash
    with pytest.raises(EndpointFailed, match="broken at 3008"):
        make_sweep(2048).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008


def interrupt(size: int, number: int) -> None:
    """Simulate Ctrl-C during the second image at 2,048 MB."""
    if (size, number) == (2048, 2):
        raise KeyboardInterrupt


def test_an_interruption_restores_the_memory(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """Ctrl-C during a measurement restores the original memory and keeps the figures measured so far."""
    cloud.before_image = interrupt
    sweep = make_sweep(2048, 10_240)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008
    assert cloud.images == [3008] * 3 + [2048] * 2
    report = sweep.report()
    assert report.restored
    assert [(each.memory_mb, each.images) for each in report.settings] == [(2048, 0), (3008, 2)]


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


def test_a_refusal_of_the_caller_ends_the_sweep(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If the caller is throttled, no other setting is tried, and the memory is restored."""

    def refuse(size: int, _: int) -> None:
        if size == 2048:
            raise Throttled("Every slot is taken.", status=429)

    cloud.before_image = refuse
    with pytest.raises(Throttled):
        make_sweep(2048, 10_240).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008


def test_declining_changes_nothing(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If the caller declines, no image is generated and the memory is not changed."""
    with pytest.raises(Cancelled, match="Nothing was changed"):
        make_sweep(2048).run(quiet(), lambda _: False)
    assert (cloud.updates, cloud.images) == ([], [])


def test_the_question_states_the_cost(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """The question states the cost by the last image's duration, or else the most that the timeout allows."""
    sweep = make_sweep(2048, 10_240)
    most = 3 * sum(pricing.invocation(size, 600) for size in (2048, 3008, 10_240))
    question = sweep.question()
    assert "Generate 9 images" in question
    assert f"at most {pricing.dollars(most)}" in question
    assert "from 3,008 MB to 2,048, 10,240 MB, for all callers?" in question
    progress.remember_seconds(OUTPUTS["LambdaUrl"], 4.0)
    price = pricing.dollars(9 * pricing.invocation(3008, 4.0))
    assert f"about {price}, since the last image took 4.0 s" in sweep.question()


def test_measuring_only_the_current_setting_changes_nothing(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If only the current setting is measured, the question mentions no change, and none is made."""
    sweep = make_sweep(3008)
    most = pricing.dollars(3 * pricing.invocation(3008, 600))
    assert sweep.question() == f"Generate 3 images (at most {most}; how long an image takes is not known yet)?"
    sweep.run(quiet(), yes)
    assert cloud.updates == []
    assert [each.images for each in sweep.report().settings] == [2]


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


def test_without_the_log_the_handlers_timings_are_used(
    cloud: Cloud, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the log cannot be read, the cost is based on the handler's timings, and a note says so."""

    def refuse(*_: Any, **__: Any) -> None:
        raise CredentialsError("no logs:FilterLogEvents")

    monkeypatch.setattr(logs, "read", refuse)
    sweep = make_sweep(10_240)
    sweep.run(quiet(), yes)
    report = sweep.report()
    assert {each.billed_source for each in report.settings} == {"timings"}
    assert [each.billed_seconds for each in report.settings] == [HANDLER_SECONDS, HANDLER_SECONDS]
    (note,) = report.notes
    assert "the log cannot be read: no logs:FilterLogEvents" in note


def test_a_late_log_is_awaited_for_a_limited_time(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If REPORT lines do not appear in time, the handler's timings are used, and a note says so."""
    cloud.reported = False
    sweep = make_sweep(10_240)
    sweep.run(quiet(), yes)
    assert {each.billed_source for each in sweep.report().settings} == {"timings"}
    assert "4 images are not in the log yet" in sweep.report().notes[0]


def test_billed_and_handler_durations_are_not_mixed(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """If the log lacks one setting's images, the handler's timings are used for all settings, and a note says so."""

    def lag(size: int, _: int) -> None:
        cloud.reported = size == 3008

    cloud.before_image = lag
    sweep = make_sweep(10_240)
    sweep.run(quiet(), yes)
    report = sweep.report()
    assert [each.billed_source for each in report.settings] == ["timings", "timings"]
    assert [each.billed_seconds for each in report.settings] == [HANDLER_SECONDS, HANDLER_SECONDS]
    (note,) = report.notes
    assert note.startswith("The billed durations are the handler's own")
    assert "2 images are not in the log yet" in note


def test_an_interruption_while_the_log_is_read_is_reported(
    cloud: Cloud, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the log is read ends the stage as failed, and a note says that the log was not read."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "read", interrupted)
    output = io.StringIO()
    sweep = make_sweep(2048)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(Stages(output), yes)
    assert output.getvalue().endswith("Reading billed durations from the log  failed\n")
    assert "because the log was not read" in sweep.report().notes[0]


def test_images_of_an_old_environment_do_not_count(cloud: Cloud, make_sweep: MakeSweep) -> None:
    """An image whose REPORT line states another memory size is left out."""
    cloud.reported_memory = lambda _: 3008
    sweep = make_sweep(10_240)
    sweep.run(quiet(), yes)
    current, large = sweep.report().settings
    assert current.images == 2
    assert (large.images, large.latency_seconds) == (0, None)
    assert large.error is not None
    assert "another memory size" in large.error


def test_log_lines_are_matched_to_images_by_seed() -> None:
    """`by_seed` joins the handler's lines, which have the seeds, with Lambda's REPORT lines."""
    lines = [
        json.dumps({"request_id": "a", "status": 200, "parameters": {"seed": 7}, "timings": {}}),
        json.dumps({"request_id": "lost", "parameters": {"seed": 8}}),
        json.dumps({"request_id": "a"}),
        "START RequestId: a Version: $LATEST",
        "[1]",
        "REPORT RequestId: a\tBilled Duration: 1500 ms\tMemory Size: 512 MB",
    ]
    ((seed, invocation),) = by_seed(lines).items()
    assert (seed, invocation.billed, invocation.memory_mb) == (7, 1.5, 512)


def run(*arguments: str, answer: str | None = None) -> Any:
    """Run `lambdiff bench`; an exception is kept in the result."""
    arguments = ("bench", "--steps", "1", "--rounds", "1", *arguments)
    return CliRunner().invoke(cli, arguments, input=answer, standalone_mode=False)


@pytest.fixture
def command_on_the_clouds_clock(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the command measure on the cloud's clock."""
    sweep = functools.partial(MemorySweep, clock=lambda: cloud.now, log_patience=0.0)
    monkeypatch.setattr("lambdiff.bench.memory_sweep.MemorySweep", sweep)


@pytest.mark.usefixtures("command_on_the_clouds_clock")
def test_bench_memory_prints_the_best_settings(cloud: Cloud) -> None:
    """After a question the command prints a table and the best two settings; with `--json --yes` it prints JSON."""
    result = run("--memory", "2048,10240", answer="y\n")
    assert result.exception is None, result.output
    assert "2,048 MB" in result.stdout
    assert "cheapest  2,048 MB: +24 % time, -15 % cost\n" in result.stdout
    assert "fastest  10,240 MB: -48 % time, +70 % cost\n" in result.stdout
    assert "The memory is 3,008 MB again" in result.stdout
    assert result.return_value == 0
    cloud.refuse = lambda size, _: ("ValidationException", 400) if size > 3008 else None
    refused = run("--memory", "10240", "--yes")
    assert refused.return_value == 7
    assert f"Error: 10,240 MB: AWS says: ValidationException: {CAP}\n  Leave out this memory size" in refused.stderr
    cloud.refuse = lambda *_: None
    document = json.loads(run("--memory", "2048", "--json", "--yes").stdout)
    assert (document["cheapest_memory_mb"], document["restored"], len(document["settings"])) == (2048, True, 2)
    assert cloud.memory == 3008


def test_without_a_terminal_yes_is_required(cloud: Cloud) -> None:
    """Without a terminal, or with --json, the command refuses to start without --yes."""
    assert run("--memory", "2048").exception is not None
    assert "add --yes" in str(run("--memory", "2048", "--json").exception)
    assert (cloud.updates, cloud.images) == ([], [])


def test_an_interrupted_command_prints_the_figures_so_far(cloud: Cloud) -> None:
    """After Ctrl-C the figures measured so far are printed, and the memory is restored."""
    cloud.before_image = interrupt
    result = run("--memory", "2048,10240", "--yes")
    assert isinstance(result.exception, click.Abort)
    assert "3,008 MB" in result.stdout
    assert cloud.memory == 3008


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--memory", "2048", "--local"), "needs a deployment"),
        (("--memory", "2048", "--url", "https://a"), "needs a deployment"),
        (("--memory", "2048", "--steps", "1,2"), "one number of steps"),
        (("--memory", "2048", "--size", "64x64,128x64"), "one size"),
        (("--memory", "64"), "not in the range"),
        (("--memory", "2048,"), "not a valid integer"),
    ],
)
def test_invalid_usage_is_refused(cloud: Cloud, arguments: tuple[str, ...], words: str) -> None:
    """Wrong usage is refused before an image is generated or the memory is changed."""
    assert words in str(run(*arguments, "--yes").exception)
    assert (cloud.updates, cloud.images) == ([], [])
