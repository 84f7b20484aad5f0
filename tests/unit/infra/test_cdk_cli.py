"""Running the CDK CLI, for which a program with recorded output stands in (infra/cdk_cli.py)."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lambdiff.aws.account import Account
from lambdiff.errors import CredentialsError
from lambdiff.infra import cdk_cli as cdks
from lambdiff.infra import guarded_process, process_guard, toolchain
from lambdiff.infra.cdk_cli import Cdk
from lambdiff.infra.settings import StackSettings
from lambdiff.infra.toolchain import Tool
from lambdiff.interrupts import DeferredInterrupt
from lambdiff.stages import Stages

RECORDED = Path(__file__).parent / "recorded"
SETTINGS = StackSettings(account="123456789012", region="us-east-1", context="x")
PROGRAM = """
import json, os, sys
arguments = sys.argv[1:]
if "--outputs-file" in arguments:
    with open(arguments[arguments.index("--outputs-file") + 1], "w") as file:
        json.dump({"lambdiff": {"LambdaUrl": "https://x/"}}, file)
with open(os.environ["SEEN"], "w") as file:
    json.dump({"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}, file)
sys.stdout.write(open(os.environ["OUTPUT"]).read())
sys.exit(int(os.environ.get("STATUS", "0")))
"""


@pytest.fixture
def stages() -> Stages:
    """The stages that `cdk` reports to."""
    return Stages(io.StringIO())


@pytest.fixture
def cdk(account: Account, stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cdk:
    """A CDK that runs `PROGRAM`."""
    monkeypatch.setattr(toolchain, "cdk", lambda: Tool((sys.executable, "-c", PROGRAM), "0", "test"))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    monkeypatch.setenv("OUTPUT", str(RECORDED / "success.log"))
    return Cdk(account, stages, log_name="test")


def test_output_becomes_stages(cdk: Cdk, stages: Stages) -> None:
    """Each stage of the recorded deployment is recorded once."""
    assert cdk.deploy(SETTINGS) == {"LambdaUrl": "https://x/"}
    stages.done()
    assert list(stages.times) == [cdks.BUILDING, cdks.PUSHING, cdks.STACK]


def test_settings_and_credentials_are_passed_in_the_environment(
    cdk: Cdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CLI gets credentials and settings in its environment, without a profile, and no secret as an argument."""
    others = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION")
    for name in others:
        monkeypatch.setenv(name, "somebody")
    cdk.deploy(SETTINGS)
    seen = json.loads((tmp_path / "seen.json").read_text())
    environment = seen["environment"]
    assert not set(others) & set(environment)
    assert environment["AWS_SECRET_ACCESS_KEY"] == "FOOBARSECRET"
    assert environment["CDK_DISABLE_CLI_TELEMETRY"] == "true"
    assert json.loads(environment["LAMBDIFF_STACK_SETTINGS"])["account"] == "123456789012"
    assert "FOOBARSECRET" not in " ".join(seen["arguments"])
    app = seen["arguments"][seen["arguments"].index("--app") + 1]
    assert not app.endswith('"')
    assert seen["folder"].endswith("cdk")


def test_the_complete_output_is_kept_in_a_private_log(cdk: Cdk) -> None:
    """The log contains the CLI's complete output but no secret, and only its owner may read it."""
    cdk.deploy(SETTINGS)
    assert cdk.log.stat().st_mode & 0o777 == 0o600
    assert (RECORDED / "success.log").read_text() in cdk.log.read_text()
    assert "FOOBARSECRET" not in cdk.log.read_text()


def test_a_failure_is_translated(cdk: Cdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the CLI fails, its output is translated into an error by the table of failures."""
    (tmp_path / "out").write_text("❌ Deployment failed: ExpiredToken: The security token is expired\n")
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("STATUS", "1")
    with pytest.raises(CredentialsError, match="expired"):
        cdk.deploy(SETTINGS)


def test_stopping_ends_child_processes() -> None:
    """`stop` also ends processes that the CLI started, such as a build."""
    child = "import time; print('started', flush=True); time.sleep(600)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"started\n"
        guarded_process.stop(process)
        assert process.returncode is not None
        assert output.read() == b""


CHILD = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
PARENT = (
    f"import os, subprocess, sys; print(os.getpid(), flush=True); subprocess.run([sys.executable, '-c', {CHILD!r}])"
)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stops_the_cli_and_says_so(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_signal_handlers: None, number: int
) -> None:
    """The CLI and its children end, their temporary files are removed, and a line is printed before that."""
    monkeypatch.setattr(toolchain, "cdk", lambda: Tool((sys.executable, "-c", PARENT), "0", "test"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    stream = io.StringIO()
    cdk = Cdk(account, Stages(stream), log_name="test")

    def interrupt() -> None:
        wait_until(lambda: cdk.log.exists() and cdk.log.read_text().count("\n") >= 4)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt("ignored"):
        cdk.deploy(SETTINGS)
    assert "Stopping the CDK CLI and the build ..." in stream.getvalue()
    pids = [int(line) for line in cdk.log.read_text().splitlines() if line.isdecimal()]
    assert len(pids) == 2
    wait_until(lambda: all(map(gone, pids)))
    assert list(temporary.iterdir()) == []


@pytest.mark.linux
def test_everything_ends_if_this_program_is_killed(tmp_path: Path) -> None:
    """The guard notices that the program is gone, ends the whole group, and removes the temporary folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [sys.executable, "-I", process_guard.__file__, str(folder), sys.executable, "-c", PARENT]
    program = f"import subprocess; subprocess.Popen({command!r}, stdin=subprocess.PIPE, start_new_session=True).wait()"
    killed = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    with killed, killed.stdout as output:
        pids = [int(output.readline()), int(output.readline())]
        assert not any(map(gone, pids))
        killed.kill()
        wait_until(lambda: all(map(gone, pids)) and not folder.exists())
        assert output.read() == ""


def test_the_guard_passes_the_exit_status_on(tmp_path: Path) -> None:
    """The status of the command is the guard's, and a signal is told as a shell tells it."""
    guard = [sys.executable, "-I", process_guard.__file__, str(tmp_path), sys.executable, "-c"]
    for program, status in (("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 128 + 15)):
        with subprocess.Popen([*guard, program], stdin=subprocess.PIPE, start_new_session=True) as process:
            assert process.wait() == status


def test_details_are_read_from_the_output() -> None:
    """Details are the number of a resource, or the command of a docker or podman build step; other lines have none."""
    assert cdks.detail_of("lambdiff |  4/13 | 1:02 PM | CREATE_COMPLETE | AWS::IAM::Policy | P (P1)") == (
        "4/13 AWS::IAM::Policy"
    )
    assert cdks.detail_of("#12 [packages 2/2] RUN pip install") == "RUN pip install"
    assert cdks.detail_of("[2/5] STEP 3/4: RUN pip install") == "RUN pip install"
    assert cdks.detail_of("Storing signatures") is None
