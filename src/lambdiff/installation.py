"""The command that adds an extra to this installation of lambdiff, however it was installed.

lambdiff may come from a checkout, a wheel or an archive, a git repository or an index, and pip, uv or pipx may have
installed it. A dist-info folder records the first in `direct_url.json` (PEP 610) and the second in `INSTALLER`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME: Final = "lambdiff"
_CHECKOUT: Final = Path(__file__).parents[2]


def install_command(extra: str) -> str:
    """Return the command line that installs an extra here; empty if nothing is known about this installation.

    Args:
        extra: its name, such as `local`.
    """
    try:
        distribution = importlib.metadata.distribution(_NAME)
    except importlib.metadata.PackageNotFoundError:  # running from a checkout, or copied
        return _command(["--editable", f"{_CHECKOUT}[{extra}]"]) if _is_checkout(_CHECKOUT) else ""
    if source := _source(distribution, extra):
        return _command(source)
    # The source is gone or secret, but the packages of the extra are known.
    return _pip([_requirement(each) for each in distribution.requires or () if _belongs_to(each, extra)])


def reinstall_command(package: str) -> str:
    """Return the command line that installs a package again."""
    return _pip(["--reinstall" if _uses_uv() else "--force-reinstall", package])


def _source(distribution: importlib.metadata.Distribution, extra: str) -> list[str]:
    """The arguments that name what lambdiff was installed from, with an extra; empty if that cannot be used again."""
    try:
        record: dict[str, Any] = json.loads(distribution.read_text("direct_url.json") or "{}")
    except json.JSONDecodeError:
        return []
    url = str(record.get("url", ""))
    if not url:
        return [f"{_NAME}[{extra}]=={distribution.version}"]
    parts = urlsplit(url)
    if parts.scheme == "file" and "vcs_info" not in record:
        path = Path(url2pathname(parts.path))
        if "dir_info" in record:
            editable = ["--editable"] if record["dir_info"].get("editable") else []
            return [*editable, f"{path}[{extra}]"] if _is_checkout(path) else []
        return [f"{_NAME}[{extra}] @ {url}"] if path.is_file() else []
    if parts.query or parts.password or (parts.username and parts.scheme in ("http", "https")):
        return []  # the URL contains a secret
    if parts.scheme == "file":  # a local repository: without a host, `git+file:` is not a valid requirement
        url = parts._replace(netloc="localhost").geturl()
    vcs = record.get("vcs_info")
    address = f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url
    folder = f"#subdirectory={record['subdirectory']}" if "subdirectory" in record else ""
    return [f"{_NAME}[{extra}] @ {address}{folder}"]


def _command(source: list[str]) -> str:
    """The command of the tool that owns this environment."""
    prefix = Path(sys.prefix)
    run_once = source[-1:]  # these two know no editable installations
    if (prefix / "pipx_metadata.json").exists():
        if prefix.parent.name == "venvs":
            return _line("pipx", "install", "--force", *source)
        return _line("pipx", "run", "--spec", *run_once, _NAME)
    if (prefix / "uv-receipt.toml").exists():
        return _line("uv", "tool", "install", "--force", *source)
    if {"archive-v0", "environments-v2"}.intersection(prefix.parts):  # folders of uv's cache
        return _line("uvx", "--from", *run_once, _NAME)
    return _pip(source)


def _pip(arguments: list[str]) -> str:
    """Install into the environment of this interpreter, which need not be the one that is activated."""
    here = Path(sys.executable).parent

    def is_here(program: str) -> bool:
        found = shutil.which(program)
        return found is not None and Path(found).parent == here

    if _uses_uv():
        return _line("uv", "pip", "install", "--python", sys.executable, *arguments)
    if is_here("pip"):
        return _line("pip", "install", *arguments)
    return _line("python" if is_here("python") else sys.executable, "-m", "pip", "install", *arguments)


def _uses_uv() -> bool:
    """Whether uv made this environment, which then usually has no pip."""
    return importlib.util.find_spec("pip") is None


def _is_checkout(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file()


def _belongs_to(requirement: str, extra: str) -> bool:
    return re.search(rf"""\bextra == (['"]){re.escape(extra)}\1""", requirement) is not None


def _requirement(requirement: str) -> str:
    return requirement.partition(";")[0].strip()


def _line(*words: str) -> str:
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if re.fullmatch(r"[\w@%+=:,./-]+", word):
        return word
    return f'"{word}"' if os.name == "nt" or not re.search(r'["$`\\!]', word) else shlex.quote(word)
