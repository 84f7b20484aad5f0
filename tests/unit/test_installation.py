"""The command that adds an extra, for each way to install lambdiff (installation.py)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lambdiff import installation
from lambdiff.errors import MissingExtra
from lambdiff.installation import install_command, reinstall_command

METADATA = """\
Metadata-Version: 2.4
Name: lambdiff
Version: 0.1.0
Provides-Extra: local
Provides-Extra: deploy
Requires-Dist: boto3>=1.40
Requires-Dist: numpy>=2; extra == 'local'
Requires-Dist: openvino>=2026.2; extra == "local"
Requires-Dist: constructs>=10.4; extra == 'deploy'
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIT = {"vcs": "git", "commit_id": COMMIT, "requested_revision": "main"}
WEB = "https://example.org/lambdiff"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Write a dist-info folder as an installer does, into an environment of its own."""
    environment = tmp_path / "env"
    folder = environment / "lib" / "lambdiff-0.1.0.dist-info"
    folder.mkdir(parents=True)
    (environment / "bin").mkdir()
    monkeypatch.syspath_prepend(str(environment / "lib"))
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))

    def install(record: object = None, *files: str) -> None:
        (folder / "METADATA").write_text(METADATA)
        if record is not None:
            (folder / "direct_url.json").write_text(record if isinstance(record, str) else json.dumps(record))
        for name in files:
            (environment / name).touch()

    return install


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that can be installed."""
    folder = tmp_path / "check out"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    return folder


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A file that can be installed."""
    file = tmp_path / "lambdiff-0.1.0-py3-none-any.whl"
    file.touch()
    return file


def python_line(tmp_path: Path, arguments: str) -> str:
    """Return the command with the environment's own pip."""
    return f"{tmp_path}/env/bin/python -m pip install {arguments}"


def test_a_checkout_is_installed_again_with_the_extra(install: Install, checkout: Path, tmp_path: Path) -> None:
    """A path with a space is quoted."""
    install({"url": checkout.as_uri(), "dir_info": {}})
    assert install_command("local") == python_line(tmp_path, f'"{checkout}[local]"')


def test_an_editable_checkout_stays_editable(install: Install, checkout: Path, tmp_path: Path) -> None:
    """The flag is repeated."""
    install({"url": checkout.as_uri(), "dir_info": {"editable": True}})
    assert install_command("bake") == python_line(tmp_path, f'--editable "{checkout}[bake]"')


def test_a_file_is_installed_again(install: Install, wheel: Path, tmp_path: Path) -> None:
    """A wheel, a source distribution and a zip file are all named by their URL."""
    install({"url": wheel.as_uri(), "archive_info": {"hash": "sha256=00"}})
    assert install_command("local") == python_line(tmp_path, f'"lambdiff[local] @ {wheel.as_uri()}"')


@pytest.mark.parametrize(
    ("record", "source"),
    [
        ({"url": f"{WEB}.zip", "archive_info": {}}, f"{WEB}.zip"),
        ({"url": f"{WEB}.git", "vcs_info": GIT}, f"git+{WEB}.git@{COMMIT}"),
        ({"url": "ssh://git@example.org/lambdiff.git", "vcs_info": GIT}, f"git+ssh://git@example.org/lambdiff.git@{COMMIT}"),
        ({"url": "file:///srv/lambdiff", "vcs_info": GIT}, f"git+file://localhost/srv/lambdiff@{COMMIT}"),
        ({"url": f"{WEB}.git", "vcs_info": GIT, "subdirectory": "py"}, f"git+{WEB}.git@{COMMIT}#subdirectory=py"),
    ],
)  # fmt: skip
def test_an_address_is_installed_again(install: Install, tmp_path: Path, record: object, source: str) -> None:
    """A git repository is named with the commit that is installed, even if a branch was asked for."""
    install(record)
    assert install_command("local") == python_line(tmp_path, f'"lambdiff[local] @ {source}"')


def test_what_came_from_an_index_is_pinned(install: Install, tmp_path: Path) -> None:
    """Without direct_url.json an index has this version; the extra must not change it."""
    install()
    assert install_command("local") == python_line(tmp_path, '"lambdiff[local]==0.1.0"')


@pytest.mark.parametrize(
    "record",
    [
        {"url": "file:///no/such/checkout", "dir_info": {"editable": True}},
        {"url": "file:///no/such/lambdiff.whl", "archive_info": {}},
        {"url": f"{WEB}.zip?X-Amz-Signature=secret", "archive_info": {}},
        {"url": "https://user:secret@example.org/lambdiff.zip", "archive_info": {}},
        {"url": "https://secret@example.org/lambdiff.git", "vcs_info": GIT},
        "{",
    ],
)
def test_a_source_that_is_gone_or_secret_is_not_needed(install: Install, tmp_path: Path, record: object) -> None:
    """The packages of the extra are listed instead, and no secret is printed."""
    install(record)
    assert install_command("local") == python_line(tmp_path, '"numpy>=2" "openvino>=2026.2"')


@pytest.mark.parametrize(
    ("files", "prefix", "command"),
    [
        (["uv-receipt.toml"], "tools/lambdiff", 'uv tool install --force "{}[local]"'),
        (["pipx_metadata.json"], "venvs/lambdiff", 'pipx install --force "{}[local]"'),
        (["pipx_metadata.json"], ".cache/98e10e65e081169", 'pipx run --spec "{}[local]" lambdiff'),
        ([], "archive-v0/xyz", 'uvx --from "{}[local]" lambdiff'),
    ],
)
def test_the_tool_that_owns_the_environment_is_used(
    install: Install, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    files: list[str], prefix: str, command: str,
) -> None:  # fmt: skip
    """pipx and uv install whole tools again; what they run once is run again with the extra."""
    install({"url": checkout.as_uri(), "dir_info": {}})
    owned = tmp_path / prefix
    owned.mkdir(parents=True)
    for name in files:
        (owned / name).touch()
    monkeypatch.setattr(sys, "prefix", str(owned))
    assert install_command("local") == command.format(checkout)


def test_an_environment_without_pip_belongs_to_uv(
    install: Install, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`uv venv` installs no pip."""
    find = installation.importlib.util.find_spec
    monkeypatch.setattr(
        installation.importlib.util, "find_spec", lambda name, *more: None if name == "pip" else find(name, *more)
    )
    install({"url": checkout.as_uri(), "dir_info": {}})
    python = f"{tmp_path}/env/bin/python"
    assert install_command("local") == f'uv pip install --python {python} "{checkout}[local]"'
    assert reinstall_command("numpy") == f"uv pip install --python {python} --reinstall numpy"


@pytest.mark.parametrize(("program", "words"), [("pip", "pip"), ("python", "python -m pip")])
def test_an_activated_environment_gets_a_short_command(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    """If `pip` or `python` of this environment is the first on PATH, its path is not needed."""
    install()
    binary = tmp_path / "env" / "bin" / program
    binary.touch(0o755)
    monkeypatch.setenv("PATH", str(binary.parent))
    assert install_command("local") == f'{words} install "lambdiff[local]==0.1.0"'
    assert reinstall_command("numpy") == f"{words} install --force-reinstall numpy"


def test_a_checkout_that_is_not_installed_is_recognized(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With only the sources on the path, the checkout is installed; for a copy of the package nothing is known."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(installation, "_CHECKOUT", checkout)
    assert install_command("local").endswith(f' --editable "{checkout}[local]"')
    monkeypatch.setattr(installation, "_CHECKOUT", tmp_path)
    assert MissingExtra("The engine", "local").fix == "Install lambdiff again, with its extra `local`."


def test_the_error_has_the_command_as_its_fix(install: Install, checkout: Path, tmp_path: Path) -> None:
    """The command can be pasted."""
    install({"url": checkout.as_uri(), "dir_info": {}})
    error: Any = MissingExtra("The engine", "local")
    assert error.fix == f'Install it: {tmp_path}/env/bin/python -m pip install "{checkout}[local]"'
    assert error.extra == "local"
