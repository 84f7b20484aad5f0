"""infra/cdk_cli.py: running the CDK CLI, here a program with recorded output."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lambdiff.aws.account import Account
from lambdiff.errors import CredentialsError
from lambdiff.infra import cdk_cli as cdks
from lambdiff.infra import toolchain
from lambdiff.infra.cdk_cli import Cdk
from lambdiff.infra.settings import StackSettings
from lambdiff.infra.toolchain import Tool
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
def cdk(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cdk:
    """A CDK that runs the program above."""
    monkeypatch.setattr(toolchain, "cdk", lambda: Tool((sys.executable, "-c", PROGRAM), "0", "test"))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    monkeypatch.setenv("OUTPUT", str(RECORDED / "success.log"))
    return Cdk(account, Stages(io.StringIO()), log_name="test")


def test_output_becomes_stages(cdk: Cdk) -> None:
    """Each stage of the recorded deployment is shown once, with its duration."""
    assert cdk.deploy(SETTINGS) == {"LambdaUrl": "https://x/"}
    cdk._stages.done()
    assert list(cdk._stages.times) == [cdks.BUILDING, cdks.PUSHING, cdks.STACK]


def test_settings_and_credentials_are_passed_in_the_environment(
    cdk: Cdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CLI receives no profile and no telemetry, no secret among its arguments, and runs in lambdiff's folder."""
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    cdk.deploy(SETTINGS)
    seen = json.loads((tmp_path / "seen.json").read_text())
    environment = seen["environment"]
    assert "AWS_PROFILE" not in environment
    assert environment["AWS_SECRET_ACCESS_KEY"] == "FOOBARSECRET"
    assert environment["CDK_DISABLE_CLI_TELEMETRY"] == "true"
    assert json.loads(environment["LAMBDIFF_STACK_SETTINGS"])["account"] == "123456789012"
    assert "FOOBARSECRET" not in " ".join(seen["arguments"])
    app = seen["arguments"][seen["arguments"].index("--app") + 1]
    assert not app.endswith('"')
    assert seen["folder"].endswith("cdk")


def test_the_whole_output_is_in_a_private_log(cdk: Cdk) -> None:
    """Its mode is 600, and it contains no secret."""
    cdk.deploy(SETTINGS)
    assert cdk.log.stat().st_mode & 0o777 == 0o600
    assert (RECORDED / "success.log").read_text() in cdk.log.read_text()
    assert "FOOBARSECRET" not in cdk.log.read_text()


def test_a_failure_is_explained(cdk: Cdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the table of failures."""
    (tmp_path / "out").write_text("❌ Deployment failed: ExpiredToken: The security token is expired\n")
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("STATUS", "1")
    with pytest.raises(CredentialsError, match="expired"):
        cdk.deploy(SETTINGS)


def test_stopping_ends_child_processes() -> None:
    """A build that the CLI started ends at Ctrl-C: its end of the pipe is closed."""
    child = "import time; print('started', flush=True); time.sleep(600)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"started\n"
        cdks.stop(process)
        assert process.returncode is not None
        assert output.read() == b""


def test_progress_is_read_from_the_output() -> None:
    """Resources by number, build steps of docker and podman by their command, nothing from other lines."""
    assert cdks.detail_of("lambdiff |  4/13 | 1:02 PM | CREATE_COMPLETE | AWS::IAM::Policy | P (P1)") == (
        "4/13 AWS::IAM::Policy"
    )
    assert cdks.detail_of("#12 [packages 2/2] RUN pip install") == "RUN pip install"
    assert cdks.detail_of("[2/5] STEP 3/4: RUN pip install") == "RUN pip install"
    assert cdks.detail_of("Storing signatures") is None
