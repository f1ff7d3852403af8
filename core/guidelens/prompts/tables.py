"""Read tables of prompts. The delimiter is found in the header, and rows are checked for open quotes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass

from guidelens.errors import UsageError
from guidelens.text import split_lines

_NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars", ":": "colons", " ": "spaces"}

_PREFERRED = ("\t", ",", ";", "|")


@dataclass(frozen=True)
class Table:
    """The rows of a table.

    :param header: the names of the columns, in lower case and without surrounding space.
    :param spelling: the same names as the file spells them.
    """

    header: tuple[str, ...]
    spelling: tuple[str, ...]
    body: list[list[str]]


def sniffed_delimiter(text: str, columns: Collection[str]) -> str | None:
    """Return the delimiter that separates one of ``columns`` in the header of a table. Return None if there is none.

    Any single character that is not part of a name can separate columns. Tab, comma, semicolon and bar are tried first,
    so a table with one column keeps the commas in its prompts.
    """
    header = next(iter(split_lines(text)), "")
    others = [
        found for found in dict.fromkeys(re.findall(r"[^\w\s\"'.()-]", header)) if found not in _PREFERRED
    ]
    for delimiter in (*_PREFERRED, *others):
        names = {cell.strip().strip('"').strip().lower() for cell in header.split(delimiter)}
        if names & set(columns):
            return delimiter
    return None


def spelled(delimiter: str) -> str:
    """Return the name of a delimiter for messages: ``semicolons``."""
    return _NAMES.get(delimiter, repr(delimiter))


def read_table(text: str, delimiter: str, name: str) -> Table:
    """Return the rows of a table with a header. Empty rows are left out.

    :param name: the name of the file in errors.
    :raises UsageError: for invalid CSV, such as a quote that is never closed: it would include all following text.
    """
    header, *body = _rows(text, delimiter, name) or [[]]
    spelling = tuple(cell.strip() for cell in header)
    return Table(tuple(cell.lower() for cell in spelling), spelling, body)


def _rows(text: str, delimiter: str, name: str) -> list[list[str]]:
    """Return the rows of a table that are not empty.

    :raises UsageError: for invalid CSV, such as a quote that is never closed: it would include all following text.
    """
    end = "\x1fend"  # becomes a separate row, unless a quote is open
    reader = csv.reader(io.StringIO(f"{text.rstrip()}\n{end}", newline=""), delimiter=delimiter)
    found: list[list[str]] = []
    begun = last = 0
    try:
        for row in reader:
            found.append(row)
            begun, last = last + 1, reader.line_num
    except csv.Error as error:
        raise UsageError(f"cannot read the prompts {name}: line {reader.line_num}: {error}") from None
    if found.pop() != [end]:
        raise UsageError(f"cannot read the prompts {name}: line {begun}: a quote is opened and never closed")
    return [row for row in found if row]
