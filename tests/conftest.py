"""What every test gets: an environment without anybody's AWS account or lambdiff settings."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from support.keys import SECRETS


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--sigv4-suite=DIR`: AWS's published SigV4 cases, which are not part of this repository."""
    parser.addoption(
        "--sigv4-suite",
        type=Path,
        metavar="DIR",
        help="tests/aws-signing-test-suite/v4 of awslabs/aws-c-auth; its tests are deselected without it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of tests that not every machine can run."""
    # What a shell starts in the background inherits a SIGINT that is ignored, and would hand it on to every child.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "sigv4_suite: needs --sigv4-suite=DIR")
    config.addinivalue_line("markers", "linux: needs Linux (AWS's runtime interface emulator)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot run here."""
    impossible = {"sigv4_suite": config.getoption("--sigv4-suite") is None, "linux": sys.platform != "linux"}
    left_out = [item for item in items if any(no and item.get_closest_marker(name) for name, no in impossible.items())]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


_leaks: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look for keys in everything a test has written: stdout, stderr and logs."""
    written = "\n".join([text for _, text in report.sections])
    if any(secret in written for secret in SECRETS):
        _leaks.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A leaked key fails the run."""
    if _leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests whose output held a key."""
    for nodeid in sorted(_leaks):
        terminalreporter.write_line(f"LEAKED KEY in the output of {nodeid}", red=True)


@pytest.fixture
def sigv4_suite(pytestconfig: pytest.Config) -> Path:
    """The folder of `--sigv4-suite`."""
    folder: Path = pytestconfig.getoption("--sigv4-suite").resolve()
    assert folder.is_dir(), f"{folder} is no folder"
    return folder


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remove AWS_* and LAMBDIFF_* and keep all state under the test's own folder."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "LAMBDIFF_")):
            monkeypatch.delenv(name)
    home = tmp_path / "lambdiff-home"
    monkeypatch.setenv("LAMBDIFF_HOME", str(home))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return home
