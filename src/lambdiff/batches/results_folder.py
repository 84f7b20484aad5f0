"""The folder that a batch run fills: its images, and one line about each in `results.jsonl`.

    000001-1f8a3c0d5e7b.png     number and key of the image; written atomically
    results.jsonl               one `ResultLine` for each row of every run, in the order in which they were finished
    .lambdiff-locks             who is making an image now, see `key_locks.py`

Lines are only appended, under a lock and in one piece. A line that a killed process has left incomplete is removed by
the next one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from lambdiff import files
from lambdiff.batches.items import Item
from lambdiff.batches.key_locks import KeyLocks
from lambdiff.errors import NOT_JSON, LambdiffError, OutputError
from lambdiff.file_locks import locked
from lambdiff.protocol import pictures
from lambdiff.protocol.contract import Generation, ImageFormat

RESULTS: Final = "results.jsonl"
_LOCKS: Final = ".lambdiff-locks"
_KEY_DIGITS: Final = 12
"""Digits of a key in the name of a file."""
_SUFFIXES: Final[dict[ImageFormat, str]] = {"png": "png", "jpeg": "jpg", "webp": "webp"}

_open_places: Final[set[tuple[int, Path]]] = set()
"""The folders that this process has open: closing a file ends all of its POSIX locks, even those of another opening."""
_opening: Final = threading.Lock()


class RowError(Struct, frozen=True, kw_only=True):
    """Why there is no image.

    Attributes:
        type: the name of the error's class, such as `EndpointFailed`.
        message: what is wrong.
        fix: what to do.
        exit_code: of a command that ends with this error.
    """

    type: str
    message: str
    fix: str
    exit_code: int

    @classmethod
    def of(cls, error: LambdiffError) -> RowError:
        """Return the description of an error."""
        return cls(type=type(error).__name__, message=error.message, fix=error.fix, exit_code=error.exit_code)


class ResultLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of `results.jsonl`: one image of one row, or why there is none.

    Attributes:
        number: the position of the image, from 1.
        line: the line of its row in the file of prompts.
        key: names the image by its complete request and the model.
        file: the image, relative to the folder; None if there is none.
        parameters: of the request, with a start image's hash.
        extra: the row's other columns.
        seconds: how long it took, waiting included; None if the image was there before.
        cost: in dollars; None if unknown, or on this machine.
        model, engine: as the endpoint names them.
        warnings: of the image.
        error: why there is no image.
    """

    number: int
    line: int
    key: str
    file: str | None
    parameters: dict[str, Any]
    extra: dict[str, Any] = {}
    seconds: float | None = None
    cost: float | None = None
    model: str = ""
    engine: str = ""
    warnings: list[str] = []
    error: RowError | None = None

    @classmethod
    def of(cls, item: Item, **fields: Any) -> ResultLine:
        """Return the line of an item."""
        return cls(
            number=item.number,
            line=item.line,
            key=item.key,
            parameters=_parameters(item.generation),
            extra=dict(item.extra),
            **fields,
        )

    def record(self) -> dict[str, Any]:
        """Return everything in one flat dictionary, as tables have it.

        Parameters and columns become keys of their own; a column that has the name of another key gets a `_` in front.
        """
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("parameters", "extra")}
        own["error"] = self.error.message if self.error else None
        record = own | self.parameters
        return record | {name if name not in record else f"_{name}": value for name, value in self.extra.items()}


class ResultsFolder:
    """A folder with results, which several processes may fill at once.

    Args:
        path: the folder; created if it is missing, but not its parents.

    Attributes:
        path: as given.
        locks: of the images that are being made.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results = path / RESULTS
        self._read_to = 0
        self._files: dict[str, str] = {}
        self._listed: set[tuple[int, str]] = set()
        self._place = os.getpid(), path.resolve()
        with _opening:
            if self._place in _open_places:
                raise OutputError(
                    f"Another batch of this program is writing to {path}.", fix="Wait until it has ended."
                )
            _open_places.add(self._place)
        try:
            self._open()
        except BaseException:
            _open_places.discard(self._place)
            raise

    def _open(self) -> None:
        path = self.path
        try:
            path.mkdir(exist_ok=True)
            self.locks = KeyLocks(path / _LOCKS)
        except OSError as error:
            raise files.unwritable(path, error) from None
        try:
            files.check_writable([path / f".{RESULTS}.check"], force=True)
            with self._locked():
                self._repair()
            self._catch_up()
            self._leftovers: dict[str, list[Path]] = {}
            for path in self.path.glob(".*.part"):  # ".NAME.RANDOM.part", see files.py
                self._leftovers.setdefault(path.name[1:].rsplit(".", 2)[0], []).append(path)
        except BaseException:
            self.locks.close()
            raise

    def close(self) -> None:
        """Release all locks."""
        self.locks.close()
        _open_places.discard(self._place)

    def find(self, item: Item) -> str | None:
        """Return the file of an item's image, whichever run made it; None if there is none.

        Lines that other processes have written meanwhile count, too, and so does a file without a line, whose process
        was killed between the two.
        """
        self._catch_up()
        name = self._files.get(item.key) or self.name(item)
        try:
            return name if (self.path / name).stat().st_size else None
        except OSError:
            return None

    def is_listed(self, item: Item) -> bool:
        """Whether `results.jsonl` has a line with the image of this item."""
        return (item.number, item.key) in self._listed

    def name(self, item: Item) -> str:
        """Return the name of the file that an item's image gets."""
        return f"{item.number:06}-{item.key[:_KEY_DIGITS]}.{_SUFFIXES[item.generation.image_format]}"

    def write_image(self, item: Item, content: bytes) -> str:
        """Write an image atomically, and return its name. The caller holds the lock of its key.

        What a killed process has left of the same image is removed.

        Raises:
            OutputError: it cannot be written.
        """
        name = files.write_atomically(self.path / self.name(item), content, force=True).name
        for leftover in self._leftovers.pop(name, ()):
            with contextlib.suppress(OSError):
                leftover.unlink()
        return name

    def append(self, line: ResultLine) -> None:
        """Append a line to `results.jsonl`, so that it survives the end of the process and of the machine.

        Raises:
            OutputError: it cannot be written.
        """
        content = msgspec.json.encode(line) + b"\n"
        try:
            with self._locked():
                self._repair()
                with self._results.open("ab", buffering=0) as stream:
                    stream.write(content)
                    os.fsync(stream.fileno())
        except OSError as error:
            raise files.unwritable(self._results, error) from None

    def lines(self) -> Iterator[ResultLine]:
        """Yield the complete lines of `results.jsonl`, of all runs.

        Raises:
            OutputError: it cannot be read, or is not such a file.
        """
        for line, _ in self._lines_from(0):
            yield line

    def latest(self) -> list[ResultLine]:
        """Return the last line of each image, by number: a failure that a later run has repaired does not count."""
        last = {(line.number, line.key): line for line in self.lines()}
        return [last[name] for name in sorted(last)]

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return locked(self._results, patience=60.0)

    def _catch_up(self) -> None:
        for line, end in self._lines_from(self._read_to):
            self._read_to = end
            if line.file is not None:
                self._files[line.key] = line.file
                self._listed.add((line.number, line.key))

    def _lines_from(self, position: int) -> Iterator[tuple[ResultLine, int]]:
        """Yield each complete line behind a position, and where it ends."""
        try:
            with self._results.open("rb") as stream:
                stream.seek(position)
                for content in stream:
                    if not content.endswith(b"\n"):
                        return
                    position += len(content)
                    yield msgspec.json.decode(content, type=ResultLine), position
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{self._results} cannot be read: {error.strerror}.", fix="Check the folder.") from None
        except NOT_JSON:
            raise OutputError(
                f"{self._results} has a line that lambdiff has not written.",
                fix="Choose another folder, or mend the file.",
            ) from None

    def _repair(self) -> None:
        """Remove an incomplete line from the end; the caller holds the lock."""
        with contextlib.suppress(FileNotFoundError), self._results.open("r+b") as stream:
            size = end = stream.seek(0, os.SEEK_END)
            while end:
                begin = max(end - 65_536, 0)
                stream.seek(begin)
                cut = stream.read(end - begin).rfind(b"\n")
                if cut >= 0:
                    end = begin + cut + 1
                    break
                end = begin
            if end != size:
                stream.truncate(end)


def _parameters(generation: Generation) -> dict[str, Any]:
    """Return the parameters of a complete request without those that are None; pictures become hashes."""
    given = {name: getattr(generation, name) for name in generation.__struct_fields__}
    named = {
        f"{name}_sha256" if name in pictures.KINDS else name: value.sha256
        if name in pictures.KINDS and value
        else value
        for name, value in given.items()
    }
    return {name: value for name, value in named.items() if value is not None}
