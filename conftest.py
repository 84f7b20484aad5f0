"""What every test and every doctest gets: a clean environment, a check for leaked keys, and no silent skips in CI."""

from __future__ import annotations

import doctest
import os
import platform
import re
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from lambdiff.engine import cpu
from support.keys import SECRETS

ROOT = Path(__file__).parent
# Tests import OpenVINO without `engine.without_telemetry`, and it would report to its maker that it is imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
_MODULE_MARK = re.compile(r"^pytestmark = .*\bpytest\.mark\.(engine|slow)\b", re.MULTILINE)
_ENGINE_EXAMPLE = re.compile(r"\bfolder\b|\bclient\b|\blocal=True\b|\blambdiff\.generate\(|\bInProcessTransport\(")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--sigv4-suite=DIR`, the folder of AWS's published SigV4 cases, which are not part of this repository."""
    parser.addoption(
        "--sigv4-suite",
        type=Path,
        metavar="DIR",
        help="tests/aws-signing-test-suite/v4 of awslabs/aws-c-auth; its tests are deselected without it",
    )


def pytest_configure() -> None:
    """Restore Ctrl-C: a shell starts background jobs with SIGINT ignored, and every child process inherits that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules with nothing to run: importing torch alone takes seconds of the quick loop."""
    if collection_path.suffix != ".py":
        return None
    if ROOT / "src" in collection_path.parents:
        nothing = ">>> " not in collection_path.read_text("utf-8")
    elif collection_path.name.startswith("test_"):
        mark = _MODULE_MARK.search(collection_path.read_text("utf-8"))
        nothing = mark is not None and f"not {mark[1]}" in config.option.markexpr
    else:
        nothing = True  # a helper: no tests, no doctests
    return nothing or None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the doctests that generate an image."""
    if any(_ENGINE_EXAMPLE.search(example.source) for example in _examples(item)):
        item.add_marker("engine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what cannot run here, and doctests of which every line is skipped."""
    impossible = {
        "sigv4_suite": config.getoption("--sigv4-suite") is None,
        "linux": sys.platform != "linux",
        "x86_64": platform.machine() != "x86_64",
        "bf16": not cpu.has_bf16(),
    }

    def cannot_run(item: pytest.Item) -> bool:
        if examples := _examples(item):
            return all(example.options.get(doctest.SKIP) for example in examples)
        return any(missing and item.get_closest_marker(name) for name, missing in impossible.items())

    config.hook.pytest_deselected(items=[item for item in items if cannot_run(item)])
    items[:] = [item for item in items if not cannot_run(item)]


def _examples(item: pytest.Item) -> list[doctest.Example]:
    """The lines of a doctest; empty for any other test."""
    return item.dtest.examples if isinstance(item, pytest.DoctestItem) else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test in CI, where everything that the suite needs has to be there."""
    report = yield
    return _refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a skipped module in CI."""
    report = yield
    return _refuse_skip(report)


def _refuse_skip(report: Any) -> Any:
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"{report.nodeid} was skipped in CI: {reason}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the quick loop quick: a module that imports torch at its top belongs to the engine tests."""
    if "not engine" in session.config.option.markexpr and "torch" in sys.modules:
        raise pytest.UsageError("a test module without `pytestmark = pytest.mark.engine` imports torch")


_leaks: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look for keys in everything that a test has written: stdout, stderr and logs."""
    written = "\n".join([text for _, text in report.sections])
    if any(secret in written for secret in SECRETS):
        _leaks.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if a key leaked."""
    if _leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests whose output held a key."""
    for nodeid in sorted(_leaks):
        terminalreporter.write_line(f"LEAKED KEY in the output of {nodeid}", red=True)


@pytest.fixture
def sigv4_suite(pytestconfig: pytest.Config) -> Path:
    """Return the folder of `--sigv4-suite`."""
    folder: Path = pytestconfig.getoption("--sigv4-suite").resolve()
    assert folder.is_dir(), f"{folder} is not a folder"
    return folder


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remove AWS_* and LAMBDIFF_* and keep all state below the test's own folder, which is returned."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "LAMBDIFF_")):
            monkeypatch.delenv(name)
    home = tmp_path / "lambdiff-home"
    monkeypatch.setenv("LAMBDIFF_HOME", str(home))
    monkeypatch.setenv("LAMBDIFF_NO_CACHE", "1")  # 50 MB for each test that generates on this machine
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return home


@pytest.fixture(scope="session", autouse=True)
def cached_service_models() -> Generator[None]:
    """Let botocore find and parse each service model once a session: half of the time of the tests with moto."""
    from botocore.loaders import JSONFileLoader, Loader

    parse, find = JSONFileLoader.load_file, Loader.list_available_services
    files: dict[str, Any] = {}
    services: dict[tuple[str, ...], list[str]] = {}

    def load_file(loader: JSONFileLoader, file_path: str) -> Any:
        if file_path not in files:
            files[file_path] = parse(loader, file_path)
        return files[file_path]

    def list_available_services(loader: Loader, type_name: str) -> list[str]:
        key = (type_name, *loader.search_paths)
        if key not in services:
            services[key] = find(loader, type_name)
        return services[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", load_file)
        patch.setattr(Loader, "list_available_services", list_available_services)
        yield


@pytest.fixture(scope="session")
def names_in_doctests() -> Generator[dict[str, Any]]:
    """Names that examples use without defining them; `url` is an endpoint with a stub engine."""
    import lambdiff
    from lambdiff.auth.credentials import Keys
    from lambdiff.handler.app import App
    from lambdiff.local import builtin
    from lambdiff.local.server import FunctionUrlServer
    from support.stub_engine import StubEngine

    app, keys = App(StubEngine), Keys("AKIDEXAMPLE", "secret")
    with FunctionUrlServer(app, keys, "us-east-1") as function, lambdiff.Client(local=True) as client:
        yield {
            "app": app,
            "client": client,
            "folder": builtin.builtin_model_dir(),
            "keys": keys,
            "lambdiff": lambdiff,
            "unet": lambda sample, timestep: sample,
            "url": function.url,
        }


@pytest.fixture(autouse=True)
def doctest_surroundings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each doctest in an empty folder, with the names that examples use."""
    if examples := _examples(request.node):
        monkeypatch.chdir(tmp_path)
        names = re.compile(r"\b(app|client|folder|keys|lambdiff|unet|url)\b")
        if any(names.search(example.source) for example in examples):
            request.getfixturevalue("doctest_namespace").update(request.getfixturevalue("names_in_doctests"))
