"""A folder of files that can be made again at any time: private, checked when read, and limited in size.

    ROOT/GROUP/NAME     the content, followed by its SHA-256

Several processes may use it at once: a file appears complete or not at all, and never changes afterwards. Nothing here
has to succeed. If a file cannot be read, it is made again; if one cannot be written, nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from lambdiff import trusted_files
from lambdiff.errors import ConfigurationError
from lambdiff.files import open_regular
from lambdiff.temporary import create, temporary_path

_DIGEST_SIZE: Final = hashlib.sha256().digest_size
_UNFINISHED: Final = ".part"
_ABANDONED_AFTER: Final = 3600
"""Seconds after which an unfinished file belongs to a process that was killed."""


@dataclass(frozen=True)
class Group:
    """The files of one group.

    Attributes:
        name: of the group.
        files: how many there are.
        size: in bytes.
        used: when one of them was last used.
    """

    name: str
    files: int
    size: int
    used: datetime


class _File(NamedTuple):
    path: Path
    size: int
    used: float


class CacheFolder:
    """See above.

    Args:
        root: the folder.
        group_limit: maximum bytes of one group.
        limit: maximum bytes of all groups.
    """

    def __init__(self, root: Path, *, group_limit: int, limit: int) -> None:
        self.root = root
        self.group_limit = group_limit
        self.limit = limit

    def problem(self) -> str | None:
        """Return why the folder cannot be used; None if it can. It is created if necessary."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            trusted_files.check_folder(self.root)
        except OSError as error:
            return f"{self.root} cannot be used: {error.strerror}."
        except ConfigurationError as error:
            return f"{error.message} {error.fix}"
        return f"{self.root} is a link." if self.root.is_symlink() else None

    def read(self, path: Path) -> memoryview | None:
        """Return a file's content in writable memory, or None if there is no such file.

        A file that is damaged, or that another user could have written, is removed.
        """
        try:
            with open_regular(path) as stream:
                status = os.fstat(stream.fileno())
                trusted_files.check(path, status)
                # Anonymous memory, and not a bytearray, which would be filled with zeros first.
                content = memoryview(mmap.mmap(-1, max(status.st_size, _DIGEST_SIZE)))
                complete = stream.readinto(content) == status.st_size
        except OSError:
            return None
        except ConfigurationError:
            remove(path)
            return None
        body, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
        if not complete or hashlib.sha256(body).digest() != digest:
            remove(path)
            return None
        return body

    def mark_used(self, path: Path) -> None:
        """Make a file the one that was used last."""
        with contextlib.suppress(OSError):
            os.utime(path)

    def paths(self, group: Path) -> list[Path]:
        """Return the files in the folder of a group."""
        return [file.path for file in self._files() if file.path.parent == group and not _is_unfinished(file.path)]

    def write(self, path: Path, content: io.BytesIO, keep: Collection[Path] = ()) -> None:
        """Write a file if it fits, and remove those that were used least recently to stay within the limits.

        Args:
            path: the file, in the folder of its group.
            content: what to write; this method appends to it.
            keep: files that must not be removed.
        """
        with content.getbuffer() as view:
            digest = hashlib.sha256(view).digest()
        content.seek(0, os.SEEK_END)
        content.write(digest)
        if sum(file.size for file in self._files() if file.path in keep) + content.tell() > self.group_limit:
            return
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write(path, content.getbuffer())
        self._evict(path.parent, self.group_limit, {*keep, path})
        self._evict(self.root, self.limit, {*keep, path})

    def groups(self) -> list[Group]:
        """List the groups, the one used last first."""
        found: dict[str, list[_File]] = {}
        for file in self._files():
            found.setdefault(file.path.parent.name, []).append(file)
        groups = [
            Group(
                name,
                files=len(files),
                size=sum(file.size for file in files),
                used=datetime.fromtimestamp(max(file.used for file in files), UTC),
            )
            for name, files in found.items()
        ]
        return sorted(groups, key=lambda group: group.used, reverse=True)

    def clear(self) -> int:
        """Remove all files, and return how many bytes they had."""
        removed = sum(file.size for file in self._files() if remove(file.path))
        for folder in self._folders():
            with contextlib.suppress(OSError):
                folder.rmdir()
        return removed

    def _evict(self, folder: Path, limit: int, keep: Collection[Path]) -> None:
        now = time.time()
        files = [
            file
            for file in self._files()
            # What other processes are writing does not count: it may be a file that is here already.
            if file.path.is_relative_to(folder)
            and (not _is_unfinished(file.path) or file.used < now - _ABANDONED_AFTER)
        ]
        excess = sum(file.size for file in files) - limit
        for file in sorted(files, key=lambda file: file.used):
            if excess > 0 and file.path not in keep and remove(file.path):
                excess -= file.size

    def _files(self) -> Iterator[_File]:
        for folder in self._folders():
            with contextlib.suppress(OSError):
                for path in folder.iterdir():
                    status = path.lstat()
                    yield _File(path, status.st_size, status.st_mtime)

    def _folders(self) -> list[Path]:
        try:
            folders = [] if self.root.is_symlink() else list(self.root.iterdir())
        except OSError:
            return []
        return [path for path in folders if path.is_dir() and not path.is_symlink()]


def _write(path: Path, content: memoryview) -> None:
    """Write a private file atomically. Unlike `files.write_atomically`, this does not wait for the disk: if the machine
    loses power, the digest tells that the file is damaged.
    """
    with temporary_path(path.parent, ".", _UNFINISHED) as name:
        with create(name) as stream:
            stream.write(content)
        os.replace(name, path)


def _is_unfinished(path: Path) -> bool:
    return path.suffix == _UNFINISHED


def remove(path: Path) -> bool:
    """Remove a file if possible, and return whether it is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True
