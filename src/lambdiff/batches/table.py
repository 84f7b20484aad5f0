"""The results of a batch as a Parquet file, which pandas, Polars, DuckDB and Athena read."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lambdiff.errors import MissingExtra
from lambdiff.files import write_atomically

PARQUET: Final = "results.parquet"


def check_library() -> None:
    """Look for the library now, before anything is generated.

    Raises:
        MissingExtra: the `batch` extra is not installed.
    """
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise MissingExtra("What writes Parquet files", "batch")


def write_parquet(folder: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Write records as `results.parquet`, with a column for each key of any of them.

    A column whose values are of several types, such as a number in one row and text in another, becomes text.

    Raises:
        OutputError: the file cannot be written.
    """
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, list[Any]] = {name: [] for record in records for name in record}
    for record in records:
        for name, values in columns.items():
            values.append(record.get(name))
    table = pyarrow.table({name: _column(pyarrow, values) for name, values in columns.items()})
    stream = io.BytesIO()
    parquet.write_table(table, stream)
    return write_atomically(folder / PARQUET, stream.getvalue(), force=True)


def _column(pyarrow: Any, values: list[Any]) -> Any:
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        return pyarrow.array([value if isinstance(value, str | None) else json.dumps(value) for value in values])
