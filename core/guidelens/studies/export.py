"""Write the flat rows of cells (:func:`.results.flat`) as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from guidelens.errors import GuidelensError
from guidelens.plugins.requirements import pip_command
from guidelens.text import without_formula

FlatRows: TypeAlias = Sequence[Mapping[str, Any]]


def table(rows: FlatRows) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns, and the rows with all of them. A column that does not apply has None. Columns of all cells
    come first, then the others by kind (``option.``, ``metric.``, ...) and name.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    plain = [name for name in names if "." not in name]
    kinds = dict.fromkeys(name.partition(".")[0] for name in names if "." in name)
    # Metrics keep the order of their plugin. Other columns have no order of their own.
    dotted = [name for kind in kinds for name in _ordered(kind, names)]
    columns = [*plain, *dotted]
    return columns, [{name: row.get(name) for name in columns} for row in rows]


def _ordered(kind: str, names: dict[str, None]) -> list[str]:
    own = [name for name in names if name.startswith(f"{kind}.")]
    return own if kind == "metric" else sorted(own)


def csv_bytes(rows: FlatRows) -> bytes:
    """Return the table as CSV (UTF-8, header, RFC 4180 quoting). A column that does not apply is an empty field.

    Text that a spreadsheet would read as a formula (``=...``, ``+...``, ``-...``, ``@...``) gets a leading
    apostrophe.
    """
    columns, whole = table(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({name: without_formula(value) for name, value in row.items()} for row in whole)
    return text.getvalue().encode()


def parquet_bytes(rows: FlatRows) -> bytes:
    """Return the table as Parquet.

    :raises GuidelensError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise GuidelensError(f"Parquet needs pyarrow: {pip_command(['guidelens[parquet]'])}") from None
    columns, whole = table(rows)
    data = {name: _column([row[name] for row in whole]) for name in columns}
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(data), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _column(values: Sequence[Any]) -> Sequence[Any]:
    """Convert a column with integers and floats to one type."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        return [None if value is None else float(value) for value in values]
    return values if len(kinds) < 2 else [None if value is None else str(value) for value in values]


FORMATS = ("csv", "parquet")


def encode(rows: FlatRows, form: str) -> bytes:
    """Return the table as the content of a file in one of :data:`FORMATS`.

    :raises GuidelensError: a package for it is missing.
    """
    return csv_bytes(rows) if form == "csv" else parquet_bytes(rows)


def format_of(path: Path) -> str:
    """Return the format that the name of a file asks for.

    :raises GuidelensError: for a name with another ending.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise GuidelensError(f"{path}: the file name must end in .csv or .parquet")
    return form
