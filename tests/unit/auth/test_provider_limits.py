"""No source of credentials waits forever (auth/provider_limits.py)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lambdiff.auth import provider_limits
from lambdiff.auth.credentials import CallerCredentials
from lambdiff.errors import CredentialsError

ROLE = "role_arn = arn:aws:iam::123456789012:role/x\nsource_profile = source\n"


@pytest.mark.parametrize("config", ["[default]\n{process}", f"[default]\n{ROLE}[profile source]\n{{process}}"])
@pytest.mark.linux
def test_a_program_that_hangs_is_stopped(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is killed after the limit, in the profile itself and in one that it refers to."""
    monkeypatch.setattr(provider_limits, "PROCESS_TIMEOUT_S", 0.3)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    process = f"credential_process = sh -c 'echo $$ > {tmp_path}/pid; exec sleep 600'"
    (tmp_path / "config").write_text(config.format(process=process))
    with pytest.raises(CredentialsError, match=r"the program did not end within 0\.3 seconds"):
        CallerCredentials(region="us-east-1").get()
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline, "the program still runs"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.linux
def test_an_mfa_code_is_not_asked_for_without_a_terminal(tmp_path: Path) -> None:
    """Without a controlling terminal, the code would be read from stdin, where it might be waited for without end."""
    (tmp_path / "config").write_text(
        f"[default]\nmfa_serial = arn:aws:iam::123456789012:mfa/me\n{ROLE}"
        "[profile source]\naws_access_key_id = AKIA\naws_secret_access_key = caller-secret\n"
    )
    reading, writing = os.pipe()  # stdin stays open, and nothing comes
    try:
        result = subprocess.run(
            [sys.executable, "-m", "lambdiff", "generate", "a cat", "--url", "http://127.0.0.1:9"],
            env={**os.environ, "AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_REGION": "us-east-1"},
            stdin=reading, capture_output=True, text=True, timeout=60, start_new_session=True, check=False,
        )  # fmt: skip
    finally:
        os.close(reading)
        os.close(writing)
    assert result.returncode == 3
    assert "an MFA code is needed, and there is no terminal to ask for it" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_an_instance_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of EC2, something else may accept the connection to the metadata service; botocore waits a second."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(CredentialsError, match="There are no AWS credentials"):
            CallerCredentials(region="us-east-1").get()
    assert time.monotonic() - started < 30
