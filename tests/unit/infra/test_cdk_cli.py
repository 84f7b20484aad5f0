"""Running the CDK CLI: a stand-in program with recorded output."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
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
    """A CDK whose CLI is the program above."""
    monkeypatch.setattr(toolchain, "cdk", lambda: Tool((sys.executable, "-c", PROGRAM), "0", "test"))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    monkeypatch.setenv("OUTPUT", str(RECORDED / "success.log"))
    return Cdk(account, Stages(io.StringIO()), name="test")


def test_output_becomes_stages(cdk: Cdk) -> None:
    """Each stage of the recorded deployment is reported once, with its time."""
    assert cdk.deploy(SETTINGS) == {"LambdaUrl": "https://x/"}
    cdk._report.done()
    assert list(cdk._report.times) == [cdks.BUILDING, cdks.PUSHING, cdks.STACK]


def test_the_cli_gets_settings_and_keys_by_environment_only(
    cdk: Cdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No profile that it could misread, no telemetry, no key among the arguments, a folder of its own."""
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


def test_everything_is_in_a_log_that_nobody_else_reads(cdk: Cdk) -> None:
    """Mode 600, and whole."""
    cdk.deploy(SETTINGS)
    assert cdk.log.stat().st_mode & 0o777 == 0o600
    assert (RECORDED / "success.log").read_text() in cdk.log.read_text()
    assert "FOOBARSECRET" not in cdk.log.read_text()


def test_a_failure_is_explained(cdk: Cdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the table, with the table's exit code."""
    (tmp_path / "out").write_text("❌ Deployment failed: ExpiredToken: The security token is expired\n")
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("STATUS", "1")
    with pytest.raises(CredentialsError, match="run out"):
        cdk.deploy(SETTINGS)


def test_stopping_ends_children_too(tmp_path: Path) -> None:
    """A build that the CLI started does not go on after Ctrl-C."""
    alive = tmp_path / "alive"
    child = f"import time\nwhile True: open({str(alive)!r}, 'w').close(); time.sleep(.02)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    give_up = time.monotonic() + 20
    while not alive.exists():
        assert time.monotonic() < give_up
        time.sleep(0.02)
    cdks.stop(process)
    alive.unlink()
    time.sleep(0.2)
    assert process.returncode is not None
    assert not alive.exists()


def test_details_are_short() -> None:
    """Resources by number, build steps of both engines by their command; anything else is no detail."""
    assert cdks.detail_of("lambdiff |  4/13 | 1:02 PM | CREATE_COMPLETE | AWS::IAM::Policy | P (P1)") == (
        "4/13 AWS::IAM::Policy"
    )
    assert cdks.detail_of("#12 [packages 2/2] RUN pip install") == "RUN pip install"
    assert cdks.detail_of("[2/5] STEP 3/4: RUN pip install") == "RUN pip install"
    assert cdks.detail_of("Storing signatures") is None
