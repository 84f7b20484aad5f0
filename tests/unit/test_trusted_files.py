"""State that others can change is not used (trusted_files.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lambdiff import config, trusted_files
from lambdiff.client import progress
from lambdiff.config import Deployment
from lambdiff.errors import ConfigurationError
from lambdiff.local.cache_folder import CacheFolder

pytestmark = pytest.mark.linux  # Windows has no modes, and no modules `grp` and `pwd`

SAVED = Deployment(name="prod", url="https://abc.lambda-url.us-east-1.on.aws/", region="us-east-1")


@pytest.fixture
def saved() -> Path:
    """A deployments file, as `config.save` writes it."""
    return config.save(SAVED)


def test_a_saved_file_is_trusted(saved: Path) -> None:
    """What lambdiff wrote, it reads."""
    assert trusted_files.read(saved) == saved.read_bytes()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", None])
def test_a_pipe_or_a_device_is_refused(saved: Path, device: str | None) -> None:
    """Reading the deployments file, the expected durations and the cache always ends."""
    for path in (saved, saved.with_name("seconds.json"), saved.with_name("cached")):
        path.unlink(missing_ok=True)
        if device:
            path.symlink_to(device)
        else:
            os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError, match=r"deployments\.json.* cannot be read: Not a regular file\."):
        config.load()
    assert progress.expected_seconds(SAVED.url) is None
    assert CacheFolder(saved.parent, group_limit=1_000, limit=1_000).read(saved.with_name("cached")) is None


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o622])
def test_a_file_that_others_can_write_is_refused(saved: Path, mode: int) -> None:
    """The message names the file and its mode, and the fix is the command that protects it."""
    saved.chmod(mode)
    with pytest.raises(
        ConfigurationError, match=f"deployments.json can be changed by other users .mode {mode:04o}"
    ) as caught:
        config.load()
    assert f"chmod go-w {saved}" in caught.value.fix
    saved.chmod(0o644)
    assert config.load().default == "prod"


def test_a_folder_that_others_can_write_is_refused(saved: Path) -> None:
    """Who can write to the folder can replace the file; with the sticky bit, only the file's owner can."""
    saved.parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match="lambdiff-home can be changed by other users"):
        config.load()
    saved.parent.chmod(0o1777)
    assert config.load().default == "prod"


def test_nothing_is_saved_where_it_would_not_be_read(clean_environment: Path) -> None:
    """Saving fails as well, so that the problem shows up at once."""
    clean_environment.mkdir()
    clean_environment.chmod(0o777)
    with pytest.raises(ConfigurationError, match="can be changed by other users"):
        config.save(SAVED)
    assert not config.path().exists()


def test_the_users_own_group_may_write(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With umask 002, new folders are writable by the group that only their owner is in."""
    import grp
    import pwd

    user = pwd.getpwuid(os.geteuid())
    saved.parent.chmod(0o770)
    own = grp.struct_group((user.pw_name, "x", user.pw_gid, []))
    monkeypatch.setattr("grp.getgrgid", lambda _: own)
    assert config.load().default == "prod"
    shared = grp.struct_group((user.pw_name, "x", user.pw_gid, ["somebody-else"]))
    monkeypatch.setattr("grp.getgrgid", lambda _: shared)
    with pytest.raises(ConfigurationError, match="can be changed"):
        config.load()


def test_a_file_of_another_user_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could change it; root's files are trusted."""
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    if saved.stat().st_uid == 0:
        assert config.load().default == "prod"
    monkeypatch.setattr("os.fstat", lambda _: os.stat_result((0o100600, 1, 1, 1, 12345, 1, 1, 0, 0, 0)))
    with pytest.raises(ConfigurationError, match=r"belongs to another user \(uid 12345\)"):
        config.load()
