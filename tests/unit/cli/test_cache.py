"""`lambdiff cache` (cli/cache.py, local/caches.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import lambdiff
from lambdiff.cli import cli
from lambdiff.local import caches

STATE = {"deployments.json", "seconds.json", "logs", "destroying"}
"""What LAMBDIFF_HOME contains that cannot be made again, or is tiny."""


@pytest.fixture
def home(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with compiled graphs of one model, two folders of `lambdiff deploy`, and a deployment."""
    monkeypatch.delenv("LAMBDIFF_NO_CACHE")
    graphs = clean_environment / "cache" / "compiled" / "emoji-0123"
    graphs.mkdir(parents=True)
    graphs.parent.chmod(0o700)
    (graphs / "unet-1").write_bytes(bytes(1_000_000))
    (graphs / "decoder-1").write_bytes(bytes(500_000))
    for name in ("models/lcm", "toolchain/aws-cdk-2"):
        (clean_environment / name).mkdir(parents=True)
        (clean_environment / name / "file").write_bytes(bytes(2_000_000))
    (clean_environment / "deployments.json").write_text("{}")
    return clean_environment


def run(*arguments: str) -> str:
    """Run `lambdiff cache` and return what it prints."""
    result = CliRunner().invoke(cli, ["cache", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_info_lists_what_is_kept(home: Path) -> None:
    """Graphs by model with size and time, then the other folders, for people and for programs."""
    lines = run("info").splitlines()
    assert lines[0] == f"Compiled graphs, 1.5 MB of at most 240.0 MB: {home / 'cache' / 'compiled'}"
    assert re.fullmatch(r"  emoji-0123: 2 graphs, 1\.5 MB, last used \d{4}-\d\d-\d\d \d\d:\d\d", lines[1])
    assert lines[2:] == [
        f"Models that `lambdiff deploy` baked, 2.0 MB: {home / 'models'}",
        f"The CDK CLI, 2.0 MB: {home / 'toolchain'}",
    ]
    report = json.loads(run("info", "--json"))
    assert (report["size"], report["limit"], report["problem"]) == (1_500_000, 240_000_000, None)
    assert [(each["name"], each["files"], each["size"]) for each in report["graphs"]] == [("emoji-0123", 2, 1_500_000)]
    assert [(each["path"], each["size"]) for each in report["others"]] == [
        (str(home / "models"), 2_000_000),
        (str(home / "toolchain"), 2_000_000),
    ]


def test_info_says_why_nothing_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is turned off, or whose folder cannot be used, is reported with the reason."""
    monkeypatch.setenv("LAMBDIFF_NO_CACHE", "1")
    assert "Not used: LAMBDIFF_NO_CACHE is set." in run("info")
    monkeypatch.delenv("LAMBDIFF_NO_CACHE")
    monkeypatch.setenv("LAMBDIFF_HOME", str(home / "deployments.json"))
    assert "Not a directory" in json.loads(run("info", "--json"))["problem"]


def test_clear_removes_only_the_graphs(home: Path) -> None:
    """Without --all, what `lambdiff deploy` keeps stays; clearing again removes nothing."""
    assert run("clear") == "1.5 MB removed.\n"
    assert json.loads(run("clear", "--json")) == {"removed": 0}
    assert (home / "models" / "lcm" / "file").exists()


def test_clear_all_keeps_the_state(home: Path) -> None:
    """With --all, everything that can be made again is removed; deployments stay."""
    assert json.loads(run("clear", "--all", "--json")) == {"removed": 5_500_000}
    assert sorted(path.name for path in home.iterdir()) == ["cache", "deployments.json"]


def test_all_is_for_clear(home: Path) -> None:
    """`info --all` is refused: `info` always lists everything."""
    assert CliRunner().invoke(cli, ["cache", "info", "--all"]).exit_code == 2


def test_every_folder_of_the_state_is_known() -> None:
    """Whatever the code keeps in LAMBDIFF_HOME is either listed by `lambdiff cache` or state that must not be lost."""
    sources = "".join(path.read_text("utf-8") for path in Path(lambdiff.__file__).parent.rglob("*.py"))
    assert set(re.findall(r'\bhome\(\) / "([^"]+)"', sources)) == STATE | set(caches.DEPLOY_FOLDERS)
