"""Refuse state that other users can change, as ssh refuses its configuration.

A changed `deployments.json` would send prompts to somebody else's endpoint, and a changed toolchain would run somebody
else's program with the caller's AWS credentials.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lambdiff.errors import ConfigurationError
from lambdiff.files import open_regular


def read(path: Path) -> bytes:
    """Return the content of a file that nobody else can change, and whose folder nobody else can change.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ConfigurationError: another user, or a group with other members, may write to it or its folder, or owns them.
    """
    with open_regular(path) as stream:
        check(path, os.fstat(stream.fileno()))
        check_folder(path.parent)
        return stream.read()


def check_folder(folder: Path) -> None:
    """Check that nobody else can replace files in a folder.

    Raises:
        OSError: there is no such folder.
        ConfigurationError: another user, or a group with other members, may write to it or owns it.
    """
    found = folder.stat()
    # In a folder with the sticky bit, such as /tmp, only the owner of a file can replace it.
    check(folder, found, writable_by_others=not found.st_mode & stat.S_ISVTX)


def check(path: Path, found: os.stat_result, *, writable_by_others: bool = True) -> None:
    """Check a file or folder that was found already.

    Args:
        path: for the error.
        found: its owner and mode.
        writable_by_others: whether somebody else who may write to it can do harm.

    Raises:
        ConfigurationError: another user, or a group with other members, may write to it or owns it.
    """
    if not hasattr(os, "geteuid"):  # Windows has access control lists instead
        return
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(
            f"{path} belongs to another user (uid {found.st_uid}), who could change it.",
            fix=f"If its content is yours, run `chown {os.geteuid()} {path}`; or set LAMBDIFF_HOME to another folder.",
        )
    if writable_by_others and (found.st_mode & stat.S_IWOTH or _writable_by_group(found)):
        raise ConfigurationError(
            f"{path} can be changed by other users (mode {stat.S_IMODE(found.st_mode):04o}).",
            fix=f"Check its content, then run `chmod go-w {path}`.",
        )


def _writable_by_group(found: os.stat_result) -> bool:
    """Whether somebody else is in a group that may write.

    Many Linux distributions give each user a group of their own and make new folders writable by it (umask 002).
    """
    if not found.st_mode & stat.S_IWGRP:
        return False
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(found.st_gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return True
    own = group.gr_gid == user.pw_gid and group.gr_name == user.pw_name
    return not own or bool(set(group.gr_mem) - {user.pw_name})
