"""The files in which AWS tools look for profiles: whether they can be read, and which one a profile is in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from lambdiff.environment import quoted
from lambdiff.errors import CredentialsError

_FILES: Final = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))


def check() -> None:
    """Check that botocore can open the files that variables name: it treats one that it cannot open as missing.

    A file that does not exist is no mistake: that is how a program is kept away from the user's own profiles.

    Raises:
        CredentialsError: a file is not a regular one, or may not be read.
    """
    for variable, _ in _FILES:
        if named := os.environ.get(variable):
            path = _expanded(named)
            if os.path.exists(path) and not os.path.isfile(path) and str(path) != os.devnull:
                reason = "it is a folder" if os.path.isdir(path) else "it is not a regular file"
            elif _is_unreadable(path):
                reason = "permission denied"
            else:
                continue
            raise CredentialsError(
                f"{variable} names a file that cannot be read: {reason} ({quoted(named)}).",
                fix=f"Set {variable} to a file that you can read, or unset it.",
            )


def unreadable() -> list[str]:
    """Return the files that exist but may not be read, which explains why a profile or a key was not found."""
    return [str(path) for path in paths() if _is_unreadable(path)]


def paths() -> tuple[Path, Path]:
    """Return the path of the configuration file and that of the credentials file, which may not exist."""
    config, credentials = (_expanded(os.environ.get(variable, default)) for variable, default in _FILES)
    return config, credentials


def describe(profile: str, *, credentials_first: bool = False) -> str:
    """Return where a profile is defined, for messages.

    Args:
        profile: its name.
        credentials_first: for a setting that is more probably in the credentials file, if both define the profile.

    Example:
        >>> describe("nobody")
        'profile nobody'
    """
    from botocore import configloader
    from botocore.exceptions import BotoCoreError

    config, credentials = paths()
    found = []
    for path, load in ((config, configloader.load_config), (credentials, configloader.raw_config_parse)):
        try:
            parsed = load(str(path))
        except BotoCoreError:
            continue
        if profile in (parsed["profiles"] if path == config else parsed):
            found.append(path)
    if not found:
        return f"profile {profile}"
    return f"profile {profile} in {found[-1] if credentials_first else found[0]}"


def _expanded(path: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(path)))  # as botocore does


def _is_unreadable(path: Path) -> bool:
    return os.path.isfile(path) and not os.access(path, os.R_OK)
