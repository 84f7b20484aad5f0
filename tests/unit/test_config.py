"""The deployments that are saved on this machine (config.py)."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from lambdiff import config
from lambdiff.config import Deployment
from lambdiff.errors import ConfigurationError, InvalidRequest


def make(name: str, **more: object) -> Deployment:
    """A deployment with a plausible URL."""
    return Deployment(name=name, url=f"https://{name}.lambda-url.us-east-1.on.aws/", region="us-east-1", **more)


def test_without_a_file_there_are_no_deployments() -> None:
    """A missing configuration file means that nothing is saved and nothing can be chosen."""
    assert config.load().deployments == {}
    assert config.choose_deployment() is None


def test_a_saved_deployment_reads_back() -> None:
    """Every field reads back, and only the owner may read the file."""
    path = config.save(make("a", auth="key-pair", secret_arn="arn:aws:secretsmanager:x"))
    assert config.load().deployments["a"] == make("a", auth="key-pair", secret_arn="arn:aws:secretsmanager:x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_last_saved_is_the_default_until_it_is_removed() -> None:
    """The deployment saved last is the default; if it is removed, another one becomes the default."""
    config.save(make("a"))
    config.save(make("b"))
    chosen = config.choose_deployment()
    assert chosen is not None
    assert chosen.value.name == "b"
    config.remove("b")
    assert config.load().default == "a"
    config.remove("a")
    assert config.choose_deployment() is None


def test_the_environment_beats_the_file_and_the_argument_beats_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument beats the environment, which beats the file; each choice names its source."""
    for name in ("a", "b", "c"):
        config.save(make(name))
    monkeypatch.setenv("LAMBDIFF_DEPLOYMENT", "b")
    assert str(config.choose_deployment()).endswith("(LAMBDIFF_DEPLOYMENT)")
    chosen = config.choose_deployment("a")
    assert chosen is not None
    assert (chosen.value.name, chosen.source) == ("a", "`deployment=`")


def test_an_unknown_name_lists_the_saved_ones() -> None:
    """The fix for a misspelled name is the list of saved deployments."""
    config.save(make("prod"))
    with pytest.raises(ConfigurationError, match="no deployment 'prd'") as caught:
        config.choose_deployment("prd")
    assert "prod" in caught.value.fix


@pytest.mark.parametrize("content", [b"{", b'{"default": 1}', b'{"default": "\xff"}', b"[" * 100_000])
def test_a_damaged_file_is_named_and_kept(content: bytes) -> None:
    """A file that cannot be read is neither ignored nor overwritten."""
    config.save(make("a"))
    config.path().write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"deployments\.json .*cannot be read"):
        config.save(make("b"))
    assert config.path().read_bytes() == content


@pytest.mark.parametrize("name", ["", "1abc", "Prod", "a_b", "a b", "../x", "prod\n", "-a", "a" * 31])
def test_names_of_deployments_follow_one_rule(name: str) -> None:
    """A name that AWS would not accept for the stack's resources is refused without a call to AWS."""
    with pytest.raises(InvalidRequest, match="not a valid deployment name") as caught:
        config.check_name(name)
    assert "lower-case" in caught.value.fix


def test_without_a_home_nothing_is_saved_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no deployments, and what needs a folder for its state says so before it starts."""
    monkeypatch.delenv("LAMBDIFF_HOME")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    assert config.load().deployments == {}
    with pytest.raises(ConfigurationError, match="cannot be written"):
        config.save(make("a"))
    with pytest.raises(ConfigurationError, match="cannot be written to") as caught:
        config.require_home()
    assert "LAMBDIFF_HOME" in caught.value.fix


@pytest.mark.linux
def test_a_user_without_a_name_and_without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container with an arbitrary user, no library can say where the home is."""
    for name in ("LAMBDIFF_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert config.load().deployments == {}
    assert not config.home().exists()
    assert not config.cache_home().exists()


def test_a_home_that_is_a_file_is_named(clean_environment: Path) -> None:
    """LAMBDIFF_HOME was set on purpose, so it is not ignored."""
    clean_environment.touch()
    with pytest.raises(ConfigurationError, match=r"\(LAMBDIFF_HOME\) cannot be read"):
        config.load()
    with pytest.raises(ConfigurationError, match="cannot be written to"):
        config.require_home()


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "../../x", "url": "https://x/", "region": "us-east-1"},
        {"name": "Prod", "url": "https://x/", "region": "us-east-1"},
        {"name": "other", "url": "https://x/", "region": "us-east-1"},
        {"name": "prod", "url": "https://x/", "region": "us-east-1", "timeout_s": -5},
    ],
)
def test_an_entry_that_nobody_saved_is_refused(entry: dict[str, object], clean_environment: Path) -> None:
    """A name becomes part of paths, so it is checked in the file as well."""
    clean_environment.mkdir(mode=0o700)
    name = "prod" if entry["name"] == "other" else entry["name"]
    config.path().write_text(json.dumps({"deployments": {name: entry}}))
    config.path().chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"deployments\.json"):
        config.load()


def test_the_source_of_an_unknown_name_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name may come from a variable that was set long ago."""
    monkeypatch.setenv("LAMBDIFF_DEPLOYMENT", "prd\r")
    with pytest.raises(ConfigurationError, match=r"There is no deployment 'prd' \(LAMBDIFF_DEPLOYMENT\)"):
        config.choose_deployment()


@pytest.mark.parametrize("name", ["a", "lambdiff", "my-model-2", "a" * 30])
def test_valid_names_are_returned(name: str) -> None:
    """A valid name comes back unchanged."""
    assert config.check_name(name) == name
