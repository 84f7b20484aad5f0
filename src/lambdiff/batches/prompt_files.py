"""Read files of prompts row by row, with line numbers and in constant memory: JSON Lines, CSV or plain text."""

from __future__ import annotations

import codecs
import csv
import functools
import io
import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, get_args

from msgspec import inspect

from lambdiff import byte_order_marks
from lambdiff.errors import InvalidRequest, MalformedRequest, did_you_mean
from lambdiff.files import open_regular
from lambdiff.printable import printable
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.protocol.validation import parse_object

FileFormat = Literal["jsonl", "csv", "tsv", "text"]
"""How a file of prompts is written. `text` has one prompt a line."""
SUFFIXES: Final[dict[str, FileFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
}
PARAMETERS: Final = GenerateRequest.__struct_fields__
MAX_LINE: Final = 1024 * 1024
"""Maximum characters of a line."""
_NUMBERS: Final = frozenset(
    each.name
    for each in inspect.type_info(GenerateRequest).fields  # type: ignore[attr-defined]  # it is a StructType
    if any(
        isinstance(getattr(kind, "type", kind), inspect.IntType | inspect.FloatType)
        for kind in getattr(each.type, "types", (each.type,))
    )
)
"""The parameters that are numbers: in a CSV file, all values are text."""


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        line: where it begins, from 1.
        fields: parameters of the request, not validated.
        extra: all other columns, which results repeat.
        problems: `(name, detail)` for what is wrong with the row itself.
    """

    line: int
    fields: dict[str, Any] = field(repr=False)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    problems: tuple[tuple[str, str], ...] = ()


class PromptFile:
    """A file of prompts, which can be read several times.

    Args:
        path: the file.
        file_format: how it is written; by default its suffix says.
        carried: columns that are not parameters, although their names resemble one.

    Attributes:
        path: as given. Pictures in the file are relative to its folder.

    Raises:
        InvalidRequest: the file cannot be read, or its suffix does not say how it is written.

    Example:
        >>> _ = Path("cats.csv").write_text("prompt,seed,id\\na cat,7,c1\\n")
        >>> [(row.line, row.fields, row.extra) for row in PromptFile(Path("cats.csv")).rows()]
        [(2, {'prompt': 'a cat', 'seed': 7}, {'id': 'c1'})]
    """

    def __init__(
        self, path: Path, file_format: FileFormat | None = None, carried: frozenset[str] = frozenset()
    ) -> None:
        self.path = path
        self._format: FileFormat = file_format or _format_of(path)
        self._carried = carried
        with closing(_open(path)):
            pass

    def rows(self) -> Iterator[Row]:
        """Yield the rows in order, without blank lines.

        Raises:
            InvalidRequest: the file cannot be read, or a CSV file has no usable header.
        """
        read: dict[FileFormat, Callable[[io.TextIOBase], Iterator[Row]]] = {
            "jsonl": self._json_rows,
            "csv": lambda text: self._table_rows(text, "excel"),
            "tsv": lambda text: self._table_rows(text, "excel-tab"),
            "text": _text_rows,
        }
        with closing(_open(self.path)) as stream, _as_text(stream) as text:
            try:
                yield from read[self._format](text)
            except OSError as error:
                raise _unreadable(self.path, error) from None

    def _json_rows(self, text: io.TextIOBase) -> Iterator[Row]:
        for line, content in _lines(text):
            if content is None:
                yield _too_long(line)
                continue
            try:
                given = parse_object(content.encode("utf-8", "surrogateescape"))
            except MalformedRequest as error:
                yield Row(line, {}, problems=(("", _of_a_line(error)),))
                continue
            fields = {name: value for name, value in given.items() if name in PARAMETERS}
            extra = {name: value for name, value in given.items() if name not in PARAMETERS}
            yield Row(line, fields, extra, tuple(self._misspelled(extra)))

    def _table_rows(self, text: io.TextIOBase, dialect: str) -> Iterator[Row]:
        reader = csv.reader(text, dialect, strict=True)
        names: list[str] | None = None
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                yield Row(line, {}, problems=(("", f"is not valid CSV ({error})"),))
                continue
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                self._check_header(names)
                continue
            yield self._table_row(line, names, cells)
        if names is None:
            raise InvalidRequest(
                f"{_shown(self.path)} has no header.", fix="Its first line names the columns: prompt,seed"
            )

    def _table_row(self, line: int, names: list[str], cells: list[str]) -> Row:
        problems = []
        if len(cells) > len(names):
            problems.append(("", f"has {len(cells)} values, but there are {len(names)} columns"))
        values = dict(zip(names, cells, strict=False))
        fields = {name: _value(name, cell) for name, cell in values.items() if name in PARAMETERS and cell.strip()}
        extra = {name: cell for name, cell in values.items() if name not in PARAMETERS}
        return Row(line, fields, extra, tuple(problems))

    def _check_header(self, names: list[str]) -> None:
        shown = _shown(self.path)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            what = ", ".join(printable(name, 40) or "(no name)" for name in repeated)
            raise InvalidRequest(f"{shown} has more than one column {what}.", fix="Rename or remove all but one.")
        problems = list(self._misspelled(dict.fromkeys(name for name in names if name not in PARAMETERS)))
        if problems:
            raise InvalidRequest(f"{shown}: " + "; ".join(f"column {name} {detail}" for name, detail in problems) + ".")
        if "prompt" not in names:
            raise InvalidRequest(
                f"{shown} has no column `prompt`.",
                fix="The first line of a CSV file names the columns; a file with one prompt a line is "
                '`file_format="text"`.',
            )

    def _misspelled(self, extra: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the names that resemble a parameter: carrying them along would silently leave it at its default."""
        for name in extra:
            if name not in self._carried and (meant := _resembled(name)):
                yield printable(name, 40), f"is not a parameter{meant} (`carry=` keeps it as it is)"


@functools.lru_cache(maxsize=1_000)
def _resembled(name: str) -> str:
    """Return `; did you mean X?` for a name that resembles a parameter, otherwise an empty string."""
    if name.lower() == "size":
        return "; did you mean width and height?"
    parts = [each for each in PARAMETERS if f"_{name.lower()}_" in f"_{each}_"]
    return f"; did you mean {parts[0]}?" if len(parts) == 1 else did_you_mean(name, PARAMETERS)


def _format_of(path: Path) -> FileFormat:
    known = SUFFIXES.get(path.suffix.lower())
    if known is None:
        raise InvalidRequest(
            f"The name {_shown(path)} does not say how the file is written.",
            fix=f"Use one of the suffixes {', '.join(SUFFIXES)}, or say it with `file_format=`, which is one of "
            f"{', '.join(get_args(FileFormat))}.",
        )
    return known


def _open(path: Path) -> BinaryIO:
    try:
        return io.BufferedReader(open_regular(path))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError | ValueError) -> InvalidRequest:
    reason = getattr(error, "strerror", None) or str(error)
    return InvalidRequest(f"{_shown(path)} cannot be read: {reason}.", fix="Check the name of the file.")


def _as_text(stream: BinaryIO) -> io.TextIOWrapper:
    """Decode a file by its byte order mark, or as UTF-8. Invalid bytes become surrogates, which requests refuse."""
    begin = stream.read(len(codecs.BOM_UTF32_LE))
    encoding, rest = byte_order_marks.split(begin)
    stream.seek(len(begin) - len(rest))
    wide = encoding not in (None, "utf-8")
    return io.TextIOWrapper(stream, encoding or "utf-8", errors="replace" if wide else "surrogateescape", newline="")


def _lines(text: io.TextIOBase) -> Iterator[tuple[int, str | None]]:
    """Yield the lines that are not blank, with their numbers; None stands for one that is too long.

    Only `\\n` ends a line, because Unicode's other separators may be part of JSON.
    """
    number = 0
    while content := text.readline(MAX_LINE):
        number += 1
        too_long = False
        while not content.endswith("\n") and (rest := text.readline(MAX_LINE)):
            content, too_long = rest, True
        if too_long:
            yield number, None
        elif stripped := content.strip():
            yield number, stripped


def _text_rows(text: io.TextIOBase) -> Iterator[Row]:
    for line, content in _lines(text):
        yield Row(line, {"prompt": content}) if content is not None else _too_long(line)


def _too_long(line: int) -> Row:
    return Row(line, {}, problems=(("", f"has more than {MAX_LINE:,} characters"),))


def _value(name: str, cell: str) -> Any:
    """Return a cell as a number, if the parameter is one and the cell can be."""
    if name not in _NUMBERS:
        return cell
    try:
        number = json.loads(cell)
    except ValueError:
        return cell
    is_number = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    return number if is_number else cell


def _of_a_line(error: MalformedRequest) -> str:
    text = error.message.rstrip(".").removeprefix("The body ")
    return text if "prompt" not in text else "must be a JSON object"


def _shown(path: Path) -> str:
    return printable(path, 200)
