"""infra/tuning.py and infra/memory.py: memory settings tried on a function of moto's.

The clock goes as the function's memory says.
"""

from __future__ import annotations

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
from botocore.exceptions import WaiterError
from click.testing import CliRunner

from lambdiff import pricing
from lambdiff.aws import logs
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import select
from lambdiff.bench import function_memory, latency, memory_sweep
from lambdiff.bench.interrupts import Stopping
from lambdiff.bench.memory_sweep import MemorySweep
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
from lambdiff.protocol.http import HttpRequest, HttpResponse, OnStep
from lambdiff.stages import Stages
from support.made_stack import OUTPUTS, REGION, make_function, make_logs, make_stack, save_deployment
from support.stub_engine import StubEngine

FUNCTION, GROUP = OUTPUTS["FunctionName"], OUTPUTS["LogGroup"]
BILLED = {2048: 2.5, 3008: 2.0, 10_240: 1.0}
"""Seconds that a picture is billed for at a memory size: 5, 5.875 and 10 GB-seconds."""
NETWORK, COLD = 0.1, 4.0
"""Seconds that a caller waits beyond that, and those of an environment's first picture."""
CAP = "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 3008"
COMMAND = f"aws lambda update-function-configuration --function-name {FUNCTION} --memory-size 3008 --region {REGION}"


@functools.cache
def aws_client(service: str) -> Any:
    """A client of the tests' own, made once: pictures are timed, and making one takes longer than a picture."""
    return boto3.client(service, REGION, aws_access_key_id="FOOBARKEY", aws_secret_access_key="FOOBARSECRET")


@dataclass
class Cloud:
    """What the tests see and do: the sizes that were set, and what goes wrong.

    Attributes:
        now: the clock of whoever waits for pictures.
        updates: every memory size that was asked for, in order.
        refuse: (code, HTTP status) for a size and the number of the update, or None.
        configuration: what AWS says otherwise of the function; moto knows no SnapStart and is never busy.
        at_picture: called with (size, picture number at this size) before a picture is drawn.
        reported: whether Lambda's line is in the log; `reported_memory` what it says.
    """

    now: float = 0.0
    updates: list[int] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)
    refuse: Callable[[int, int], tuple[str, int] | None] = lambda *_: None
    at_picture: Callable[[int, int], None] = lambda *_: None
    configuration: dict[str, Any] = field(default_factory=dict)
    reported: bool = True
    reported_memory: Callable[[int], int] = lambda size: size

    @property
    def memory(self) -> int:
        """What the function has now."""
        return int(aws_client("lambda").get_function_configuration(FunctionName=FUNCTION)["MemorySize"])

    def after_reading(self, parsed: dict[str, Any], **_: Any) -> None:
        """botocore's event for an answer that has come."""
        parsed.update(self.configuration)

    def before_update(self, params: dict[str, Any], **_: Any) -> Any:
        """botocore's event before a request is sent: an answer given here is AWS's."""
        size = json.loads(params["body"])["MemorySize"]
        self.updates.append(size)
        refusal = self.refuse(size, len(self.updates))
        if refusal is None:
            return None
        code, status = refusal
        error = {"Code": code, "Message": CAP if code == "ValidationException" else "its words"}
        return SimpleNamespace(status_code=status), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.fixture(autouse=True)
def signals_as_in_a_terminal() -> Iterator[None]:
    """What starts these tests may ignore some, as nohup and background jobs do."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def cloud(aws: None, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A deployment with 3,008 MB, whose endpoint is this process."""
    make_stack()
    make_function()
    make_logs()
    save_deployment(memory_mb=3008, architecture="x86_64")
    cloud = Cloud()
    honest = Account.client

    def client(self: Account, service: str) -> Any:
        made = honest(self, service)
        made.meta.events.register("before-call.lambda.UpdateFunctionConfiguration", cloud.before_update)
        made.meta.events.register("after-call.lambda.GetFunctionConfiguration", cloud.after_reading)
        return made

    monkeypatch.setattr(Account, "client", client)
    monkeypatch.setattr("lambdiff.client.client.Client", lambda **_: Client(transport=Environment(cloud)))
    monkeypatch.setattr("lambdiff.client.client.time", SimpleNamespace(perf_counter=lambda: cloud.now))
    monkeypatch.setattr(memory_sweep, "LOG_PATIENCE", 0.0)
    return cloud


class Environment:
    """A Function URL over moto's function: a new environment for each memory size."""

    url = OUTPUTS["LambdaUrl"]

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._apps: dict[int, App] = {}

    def request(self, method: str, body: bytes = b"", on_step: OnStep | None = None) -> HttpResponse:
        size = self.cloud.memory
        if size not in self._apps:
            self._apps = {size: App(lambda: StubEngine(step_seconds=0.01), write_log=self.write)}
        if method == "POST":
            self.cloud.pictures.append(size)
            self.cloud.at_picture(size, self.cloud.pictures.count(size))
        request = HttpRequest(
            method, headers={"content-type": "application/json"}, body=body, request_id=os.urandom(8).hex()
        )
        reply = self._apps[size].handle(request, on_step)
        if method == "POST":
            self.cloud.now += BILLED[size] + NETWORK + (COLD if "load;" in reply.headers["server-timing"] else 0)
            if self.cloud.reported:
                billed, memory = BILLED[size] * 1000, self.cloud.reported_memory(size)
                put(f"REPORT RequestId: {request.request_id}\tBilled Duration: {billed} ms\tMemory Size: {memory} MB")
        return reply

    def write(self, entry: dict[str, Any]) -> None:
        """The handler's line."""
        put(json.dumps(entry))

    def close(self) -> None:
        """Nothing to let go of."""


def put(message: str) -> None:
    """Write a line into the function's log."""
    event = {"timestamp": int(time.time() * 1000), "message": message}
    aws_client("logs").put_log_events(logGroupName=GROUP, logStreamName="one", logEvents=[event])


def tuner(cloud: Cloud, *sizes: int, rounds: int = 2) -> MemorySweep:
    """A measurement that has not begun."""
    chosen = select()
    client = Client(transport=Environment(cloud))
    return MemorySweep(chosen, client, latency.plan(client, steps=[1]), sizes, rounds=rounds)


def quiet() -> Stages:
    """A report that nobody reads."""
    return Stages(io.StringIO())


def yes(_: str) -> bool:
    """Agreement."""
    return True


def test_cheapest_and_fastest(cloud: Cloud) -> None:
    """Every setting by Lambda's billed time and the table of prices, relative to the present one; then as before."""
    measured = tuner(cloud, 10_240, 2048)
    measured.run(quiet(), yes)
    assert cloud.updates == [2048, 10_240, 3008]
    assert cloud.memory == 3008
    assert cloud.pictures == [3008] * 3 + [2048] * 3 + [10_240] * 3
    report = measured.report()
    assert (report.memory_mb, report.restored, report.cheapest, report.fastest) == (3008, True, 2048, 10_240)
    assert [each.memory_mb for each in report.settings] == [2048, 3008, 10_240]
    assert [each.current for each in report.settings] == [False, True, False]
    for each in report.settings:
        assert (each.billed, each.billed_by, each.pictures) == (BILLED[each.memory_mb], "log", 2)
        assert each.dollars_per_image == pricing.invocation(each.memory_mb, BILLED[each.memory_mb])
        waited = BILLED[each.memory_mb] + NETWORK
        assert each.cold == pytest.approx(waited + COLD)
        assert each.seconds == latency.Stats(median=waited, min=waited, max=waited)
        assert each.error is None
    assert [each.time for each in report.settings] == [1.238, 1.0, 0.524]  # 2.6, 2.1 and 1.1 s
    assert [each.cost for each in report.settings] == [0.851, 1.0, 1.701]  # 5, 5.875 and 10 GB-s, and each a request
    assert report.notes == []


def test_more_than_the_account_may_have(cloud: Cloud) -> None:
    """AWS's words for that size, and figures for the others."""
    cloud.refuse = lambda size, _: ("ValidationException", 400) if size > 3008 else None
    measured = tuner(cloud, 2048, 10_240)
    measured.run(quiet(), yes)
    small, now, large = measured.report().settings
    assert large.error == f"AWS says: ValidationException: {CAP}"
    assert large.fix == "Ask AWS for more memory, or leave that size out."
    assert [(size, error.exit_code) for size, error in measured.errors.items()] == [(10_240, 7)]
    assert (large.seconds, large.dollars_per_image, large.time) == (None, None, None)
    assert (small.pictures, now.pictures) == (2, 2)
    assert measured.report().cheapest == 2048
    assert cloud.memory == 3008


def test_too_little_memory(cloud: Cloud) -> None:
    """A function that dies at one size is measured at the others."""

    def die(size: int, _: int) -> None:
        if size == 2048:
            raise EndpointFailed("The function ended before it answered.")

    cloud.at_picture = die
    measured = tuner(cloud, 2048, 10_240)
    measured.run(quiet(), yes)
    small, _, large = measured.report().settings
    assert (small.error, small.pictures) == ("The function ended before it answered.", 0)
    assert large.pictures == 2
    assert cloud.pictures.count(2048) == 1
    assert [error.exit_code for error in measured.errors.values()] == [5]
    assert cloud.memory == 3008


def test_nothing_measured_is_an_error(cloud: Cloud) -> None:
    """The first reason, and the memory as before."""

    def die(size: int, _: int) -> None:
        raise EndpointFailed(f"broken at {size}")

    cloud.at_picture = die
    with pytest.raises(EndpointFailed, match="broken at 3008"):
        tuner(cloud, 2048).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008


def interrupt(size: int, number: int) -> None:
    """Ctrl-C during the second picture at 2,048 MB."""
    if (size, number) == (2048, 2):
        raise KeyboardInterrupt


def test_an_interruption_restores_the_memory(cloud: Cloud) -> None:
    """2,048 MB are set, the second picture is interrupted, 3,008 MB are set again; figures that were there stay."""
    cloud.at_picture = interrupt
    measured = tuner(cloud, 2048, 10_240)
    with pytest.raises(KeyboardInterrupt):
        measured.run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008
    assert cloud.pictures == [3008] * 3 + [2048] * 2
    report = measured.report()
    assert report.restored
    assert [(each.memory_mb, each.pictures) for each in report.settings] == [(2048, 0), (3008, 2)]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_restore_the_memory(cloud: Cloud, name: str) -> None:
    """Also those that would end the program at once; afterwards they mean again what they meant before."""
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def stop(size: int, _: int) -> None:
        if size == 2048:
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    cloud.at_picture = stop
    with pytest.raises(KeyboardInterrupt):
        tuner(cloud, 2048).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008
    assert signal.getsignal(number) is before


def test_ctrl_c_twice_still_restores(cloud: Cloud, capfd: pytest.CaptureFixture[str]) -> None:
    """The second one arrives while 3,008 MB are being set: it is passed over with a word."""
    cloud.at_picture = interrupt

    def again(size: int, number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)

    cloud.refuse = again
    with pytest.raises(KeyboardInterrupt):
        tuner(cloud, 2048).run(quiet(), yes)
    assert cloud.memory == 3008
    assert "once more gives that up" in capfd.readouterr().err


def test_ctrl_c_on_the_way_to_the_end_restores(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one arrives when the last picture is there, just before signals are passed over."""
    sent: list[int] = []

    class Late(Stopping):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "patient" and value and not sent:
                sent.append(signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            super().__setattr__(name, value)

    monkeypatch.setattr(function_memory, "Stopping", Late)
    with pytest.raises(KeyboardInterrupt):
        tuner(cloud, 2048).run(quiet(), yes)
    assert sent == [signal.SIGINT]
    assert cloud.pictures == [3008] * 3 + [2048] * 3
    assert cloud.memory == 3008


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # rich's, which writes meanwhile
@pytest.mark.parametrize(
    ("terminal", "error", "end"),
    [
        (True, OSError(errno.EIO, "the terminal is gone"), KeyboardInterrupt),
        (False, BrokenPipeError("the reader is gone"), KeyboardInterrupt),
        (False, RuntimeError("anything else"), RuntimeError),
    ],
)
def test_the_memory_is_restored_though_nothing_can_be_written(
    cloud: Cloud, terminal: bool, error: Exception, end: type[BaseException]
) -> None:
    """The terminal was closed: SIGHUP, and then an error for each line."""

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

    cloud.at_picture = hang_up
    with pytest.raises(end):
        tuner(cloud, 2048).run(Stages(stream), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008


@pytest.mark.parametrize("method", ["stage", "failed"])
def test_an_interrupted_report_does_not_lose_the_command(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Ctrl-C while the user is told that the memory is being restored, or that it was not."""
    cloud.refuse = lambda _, number: ("AccessDeniedException", 403) if number > 1 else None
    report = quiet()
    honest = getattr(report, method)

    def interrupted(*arguments: str) -> None:
        if report._name.startswith("Setting") or "".join(arguments).startswith("Setting"):
            raise KeyboardInterrupt
        honest(*arguments)

    monkeypatch.setattr(report, method, interrupted)
    with pytest.raises(DeployError) as caught:
        tuner(cloud, 2048).run(report, yes)
    assert caught.value.fix == f"Do it: {COMMAND}"


def test_ctrl_c_three_times_says_what_is_left_to_do(cloud: Cloud) -> None:
    """The third one is obeyed, and the command that sets 3,008 MB is in the message."""
    cloud.at_picture = interrupt

    def again(size: int, number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    cloud.refuse = again
    measured = tuner(cloud, 2048)
    with pytest.raises(DeployError, match="it was interrupted") as caught:
        measured.run(quiet(), yes)
    assert caught.value.fix == f"Do it: {COMMAND}"
    assert not measured.report().restored
    assert cloud.memory == 2048


def test_what_cannot_be_restored_is_told_with_the_command(cloud: Cloud) -> None:
    """Also after an interruption: the memory is still 2,048 MB, and one line of the AWS CLI mends it."""
    cloud.at_picture = interrupt
    cloud.refuse = lambda _, number: ("AccessDeniedException", 403) if number > 1 else None
    measured = tuner(cloud, 2048)
    with pytest.raises(DeployError, match=r"could not be set to 3,008 MB again: .*its words") as caught:
        measured.run(quiet(), yes)
    assert caught.value.fix == f"Do it: {COMMAND}"
    assert caught.value.exit_code == 7
    assert cloud.memory == 2048


def test_without_the_permission_nothing_is_changed(cloud: Cloud) -> None:
    """One try and AWS's words; since it refused, there is nothing to restore."""
    cloud.refuse = lambda *_: ("AccessDeniedException", 403)
    measured = tuner(cloud, 2048)
    with pytest.raises(CredentialsError, match=r"cannot be changed.*its words"):
        measured.run(quiet(), yes)
    assert cloud.updates == [2048]
    assert measured.report().restored


def test_a_lost_answer_is_taken_for_a_change(cloud: Cloud) -> None:
    """A server error says nothing about what was done: the memory is set as before."""
    cloud.refuse = lambda _, number: ("ServiceException", 501) if number == 1 else None
    with pytest.raises(DeployError):
        tuner(cloud, 2048).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]


def test_a_busy_function_is_waited_for(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS refuses a change while one is under way, as after an interruption in the middle of one."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waited.append))
    cloud.refuse = lambda _, number: ("ResourceConflictException", 409) if number in (2, 3) else None
    tuner(cloud, 2048).run(quiet(), yes)
    assert cloud.updates == [2048, 3008, 3008, 3008]
    assert waited == [2, 2]
    assert cloud.memory == 3008


def test_a_change_that_fails_later_is_undone(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS accepts 2,048 MB and then reports that the update failed."""
    measured = tuner(cloud, 2048)
    client = measured.memory._lambda
    honest = client.get_waiter

    def waiter(name: str) -> Any:
        if cloud.updates == [2048]:
            return SimpleNamespace(wait=failing)
        return honest(name)

    def failing(**_: Any) -> None:
        raise WaiterError("FunctionUpdatedV2", "terminal failure", {})

    monkeypatch.setattr(client, "get_waiter", waiter)
    with pytest.raises(DeployError, match="did not take 2,048 MB"):
        measured.run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert measured.memory.restored


def test_a_refusal_of_the_caller_ends_it(cloud: Cloud) -> None:
    """Not a matter of memory: the rest is not tried, and the memory is as before."""

    def refuse(size: int, _: int) -> None:
        if size == 2048:
            raise Throttled("Every slot is taken.", status=429)

    cloud.at_picture = refuse
    with pytest.raises(Throttled):
        tuner(cloud, 2048, 10_240).run(quiet(), yes)
    assert cloud.updates == [2048, 3008]
    assert cloud.memory == 3008


def test_no_is_no(cloud: Cloud) -> None:
    """Neither a picture nor a change."""
    with pytest.raises(Cancelled, match="Nothing was changed"):
        tuner(cloud, 2048).run(quiet(), lambda _: False)
    assert (cloud.updates, cloud.pictures) == ([], [])


def test_the_question_has_the_price(cloud: Cloud) -> None:
    """By the last picture's time if there was one, else the most that the time-outs allow."""
    measured = tuner(cloud, 2048, 10_240)
    most = 3 * sum(pricing.invocation(size, 600) for size in (2048, 3008, 10_240))
    question = measured.question()
    assert "Draw 9 pictures" in question
    assert f"less than {pricing.dollars(most)}" in question
    assert "is 3,008 MB, to 2,048, 10,240 MB, also for others" in question
    progress.remember_seconds(OUTPUTS["LambdaUrl"], 4.0)
    price = pricing.dollars(9 * pricing.invocation(3008, 4.0))
    assert f"about {price}, as the last picture took 4.0 s" in measured.question()


def test_the_present_setting_alone(cloud: Cloud) -> None:
    """Nothing is set, so nothing of the kind is asked."""
    measured = tuner(cloud, 3008)
    most = pricing.dollars(3 * pricing.invocation(3008, 600))
    assert measured.question() == f"Draw 3 pictures (less than {most}; how long one takes is not known yet)?"
    measured.run(quiet(), yes)
    assert cloud.updates == []
    assert [each.pictures for each in measured.report().settings] == [2]


def test_snapstart_is_refused(cloud: Cloud) -> None:
    """Its URL serves a published version, which a new setting would not reach: the wrong thing would be measured."""
    cloud.configuration = {"SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}}
    with pytest.raises(ConfigurationError, match="serves a published version"):
        tuner(cloud, 2048)
    assert (cloud.updates, cloud.pictures) == ([], [])


def test_a_function_that_is_being_changed_is_left_alone(cloud: Cloud) -> None:
    """Its memory of now may not be its memory of later."""
    cloud.configuration = {"LastUpdateStatus": "InProgress"}
    with pytest.raises(DeployError, match="is being changed"):
        tuner(cloud, 2048)
    assert (cloud.updates, cloud.pictures) == ([], [])


def test_without_the_log_the_handlers_times_count(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said so, and the price is by the phases."""

    def refuse(*_: Any, **__: Any) -> None:
        raise CredentialsError("no logs:FilterLogEvents")

    monkeypatch.setattr(logs, "read", refuse)
    measured = tuner(cloud, 10_240)
    measured.run(quiet(), yes)
    report = measured.report()
    assert {each.billed_by for each in report.settings} == {"timings"}
    now, large = (each.billed for each in report.settings)
    assert now is not None
    assert large is not None
    assert 0.01 <= now < BILLED[3008]
    assert 0.01 <= large < BILLED[10_240]
    (note,) = report.notes
    assert "the log cannot be read: no logs:FilterLogEvents" in note


def test_a_log_that_lags_behind(cloud: Cloud) -> None:
    """It is waited for, but not for ever."""
    cloud.reported = False
    measured = tuner(cloud, 10_240)
    measured.run(quiet(), yes)
    assert {each.billed_by for each in measured.report().settings} == {"timings"}
    assert "4 pictures are not in the log yet" in measured.report().notes[0]


def test_times_of_two_kinds_are_not_compared(cloud: Cloud) -> None:
    """The log has one setting's pictures and not the other's: the handler's times count for both, and it is said."""

    def lag(size: int, _: int) -> None:
        cloud.reported = size == 3008

    cloud.at_picture = lag
    measured = tuner(cloud, 10_240)
    measured.run(quiet(), yes)
    report = measured.report()
    assert [each.billed_by for each in report.settings] == ["timings", "timings"]
    assert [(each.billed or 0) < 1 for each in report.settings] == [True, True]
    (note,) = report.notes
    assert note.startswith("The billed times are the handler's own")
    assert "2 pictures are not in the log yet" in note


def test_an_interruption_while_the_log_is_read(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage ends, and the report says whose times it has."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "read", interrupted)
    said = io.StringIO()
    measured = tuner(cloud, 2048)
    with pytest.raises(KeyboardInterrupt):
        measured.run(Stages(said), yes)
    assert said.getvalue().endswith("Reading the billed times in the log  failed\n")
    assert "because the log was not read" in measured.report().notes[0]


def test_an_old_environments_pictures_do_not_count(cloud: Cloud) -> None:
    """Lambda says with how much memory each was drawn."""
    cloud.reported_memory = lambda _: 3008
    measured = tuner(cloud, 10_240)
    measured.run(quiet(), yes)
    now, large = measured.report().settings
    assert now.pictures == 2
    assert (large.pictures, large.seconds) == (0, None)
    assert large.error is not None
    assert "another memory" in large.error


def test_pictures_are_found_by_their_seeds() -> None:
    """In the handler's lines; everything else in a log is passed over."""
    lines = [
        json.dumps({"request_id": "a", "status": 200, "parameters": {"seed": 7}, "timings": {}}),
        json.dumps({"request_id": "lost", "parameters": {"seed": 8}}),
        json.dumps({"request_id": "a"}),
        "START RequestId: a Version: $LATEST",
        "[1]",
        "REPORT RequestId: a\tBilled Duration: 1500 ms\tMemory Size: 512 MB",
    ]
    (found,) = memory_sweep.by_seed(lines).items()
    assert (found[0], found[1].billed, found[1].memory_mb) == (7, 1.5, 512)


def run(*arguments: str, answer: str | None = None) -> Any:
    """`lambdiff bench`; its exceptions are kept in the result."""
    arguments = ("bench", "--steps", "1", "--rounds", "1", *arguments)
    return CliRunner().invoke(cli, arguments, input=answer, standalone_mode=False)


def test_the_command(cloud: Cloud) -> None:
    """A table, the two winners and the trade-off, after a question; the same as JSON with --yes."""
    result = run("--memory", "2048,10240", answer="y\n")
    assert result.exception is None, result.output
    assert "2,048 MB" in result.stdout
    assert "cheapest  2,048 MB: +24 % time, -15 % cost\n" in result.stdout
    assert "fastest  10,240 MB: -48 % time, +70 % cost\n" in result.stdout
    assert "The memory is 3,008 MB, as before" in result.stdout
    assert result.return_value == 0
    cloud.refuse = lambda size, _: ("ValidationException", 400) if size > 3008 else None
    refused = run("--memory", "10240", "--yes")
    assert refused.return_value == 7
    assert f"Error: 10,240 MB: AWS says: ValidationException: {CAP}\n  Ask AWS for more memory" in refused.stderr
    cloud.refuse = lambda *_: None
    document = json.loads(run("--memory", "2048", "--json", "--yes").stdout)
    assert (document["cheapest"], document["restored"], len(document["settings"])) == (2048, True, 2)
    assert cloud.memory == 3008


def test_off_a_terminal_it_refuses_without_yes(cloud: Cloud) -> None:
    """Nobody there to answer, and with --json nobody to ask."""
    assert run("--memory", "2048").exception is not None
    assert "add --yes" in str(run("--memory", "2048", "--json").exception)
    assert (cloud.updates, cloud.pictures) == ([], [])


def test_an_interrupted_command_shows_what_was_paid_for(cloud: Cloud) -> None:
    """The figures so far are on stdout, and the interruption goes on to the exit code."""
    cloud.at_picture = interrupt
    result = run("--memory", "2048,10240", "--yes")
    assert isinstance(result.exception, click.Abort)
    assert "3,008 MB" in result.stdout
    assert cloud.memory == 3008


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--memory", "2048", "--local"), "is for a deployment"),
        (("--memory", "2048", "--url", "https://a"), "is for a deployment"),
        (("--memory", "2048", "--steps", "1,2"), "one number of steps"),
        (("--memory", "2048", "--size", "64x64,128x64"), "one size"),
        (("--memory", "64"), "not in the range"),
        (("--memory", "2048,"), "not a valid integer"),
    ],
)
def test_mistakes_are_explained(cloud: Cloud, arguments: tuple[str, ...], words: str) -> None:
    """Before anything is asked for or changed."""
    assert words in str(run(*arguments, "--yes").exception)
    assert (cloud.updates, cloud.pictures) == ([], [])
