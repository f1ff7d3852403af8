"""Reading prompts from CSV, TSV and text files and from standard input, and choosing some of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.text import STDIN, check_characters, read_text, split_lines

PROMPT_COLUMNS = ("prompt", "prompts", "caption", "captions", "text")
"""Names of the column that holds the prompts, in any case, where the reader names none."""

CATEGORY_COLUMN = "category"

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_prompts(path: str | Path, column: str = "") -> list[Prompt]:
    """Read prompts from a CSV or TSV file with a header, or from a text file, one a line.

    A file that ends in ``.csv`` or ``.tsv`` is a table, one that ends in ``.txt`` is not; any other, and standard
    input, is a table where its first line has a column of prompts. Columns of a ``.csv`` are separated by commas,
    semicolons or tabs. ``.json`` holds a list of texts or of objects, ``.jsonl`` one of these per line; the entries of
    an object are columns. A column ``category`` is taken as such. Space around prompts, categories and names is
    dropped, and so are empty prompts. Lines end in a line feed, after a carriage return or not.

    :param path: a file, or ``-`` for standard input.
    :param column: the column with the prompts, in any case; empty: one of :data:`PROMPT_COLUMNS`.
    :raises UsageError: when it cannot be read, has no such column, or holds no prompt.
    """
    name = "standard input" if str(path) == STDIN else str(path)
    text = read_text(path, name if str(path) == STDIN else f"the prompts {name}")
    suffix = "" if str(path) == STDIN else Path(path).suffix.lower()
    if suffix in (".json", ".jsonl"):
        return _chosen(_objects(text, suffix, name), column, name)
    delimiter = _DELIMITERS.get(suffix) or (None if suffix == ".txt" else _sniffed(text, column))
    if delimiter is None:
        if column:
            raise UsageError(f"{name} is text, one prompt a line: it has no column {column!r}")
        prompts = [Prompt(line.strip()) for line in split_lines(text) if line.strip()]
    else:
        if suffix == ".csv":
            delimiter = _sniffed(text, column) or delimiter
        prompts = _table(text, delimiter, column, name)
    if not prompts:
        raise UsageError(f"{name} holds no prompt")
    return prompts


def select(
    prompts: Sequence[Prompt],
    *,
    categories: Iterable[str] = (),
    limit: int | None = None,
    seed: int | None = None,
    name: str = "the prompts",
) -> list[Prompt]:
    """Select prompts by category and number. Their order is kept.

    :param categories: names in any case; empty: all.
    :param limit: maximum number of prompts; None: all.
    :param seed: None takes the first ``limit``; a number draws them at random. The draw does not depend on the order of
        the prompts, and a larger ``limit`` extends the draw of a smaller one.
    :param name: how error messages refer to the prompts.
    :raises UsageError: no prompt has a category, or ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}")
    chosen = list(prompts)
    wanted = {category.strip().lower(): category for category in categories}
    if wanted:
        there = dict.fromkeys(prompt.category for prompt in prompts)
        for key, category in wanted.items():
            if key not in {known.lower() for known in there}:
                named = ", ".join(repr(known) for known in there if known) or "none"
                raise UsageError(f"{name} has no category {category!r}; it has {named}")
        chosen = [prompt for prompt in chosen if prompt.category.lower() in wanted]
    if limit is None or seed is None:
        return chosen[:limit]
    ranked = sorted(range(len(chosen)), key=lambda i: _rank(chosen[i], seed))
    return [chosen[i] for i in sorted(ranked[:limit])]


def _rank(prompt: Prompt, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{prompt.category}/{prompt.text}".encode()).digest()


def _objects(text: str, suffix: str, name: str) -> list[Any]:
    """Return the entries of a JSON list, or of JSON lines.

    :raises UsageError: it is not JSON; names the line.
    """
    numbered = enumerate(split_lines(text), 1) if suffix == ".jsonl" else [(0, text)]
    found = []
    for number, line in numbered:
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            where = f"line {number}: " if number else ""
            raise UsageError(f"cannot read the prompts {name}: {where}it is not JSON: {error}") from None
    if suffix == ".json":
        if len(found) != 1 or not isinstance(found[0], list):
            raise UsageError(f"{name} must hold a JSON list of texts or objects")
        return list(found[0])
    return found


def _chosen(entries: list[Any], column: str, name: str) -> list[Prompt]:
    """Return the prompts of JSON texts and objects."""
    prompts = []
    for number, entry in enumerate(entries, 1):
        columns = (
            {key.strip().lower(): value for key, value in entry.items()} if isinstance(entry, dict) else {}
        )
        wanted = [column.strip().lower()] if column else list(PROMPT_COLUMNS)
        text = (
            entry
            if isinstance(entry, str)
            else next((columns[want] for want in wanted if want in columns), None)
        )
        if not isinstance(text, str):
            raise UsageError(
                f"{name}: entry {number} is neither text nor an object with the text {' or '.join(map(repr, wanted))}"
            )
        category = columns.get(CATEGORY_COLUMN) or ""
        if not isinstance(category, str):
            raise UsageError(f"{name}: entry {number}: category must be text, not {category!r}")
        check_characters(text + category, f"{name}: entry {number}")  # JSON can spell half a character
        if text.strip():
            prompts.append(Prompt(" ".join(split_lines(text)).strip(), category.strip()))
    if not prompts:
        raise UsageError(f"{name} holds no prompt")
    return prompts


def _sniffed(text: str, column: str) -> str | None:
    """Return the delimiter of a table whose header has a column of prompts; None for plain text."""
    header = next(iter(split_lines(text)), "")
    wanted = {column.strip().lower()} if column else set(PROMPT_COLUMNS)
    for delimiter in ("\t", ",", ";"):
        names = {cell.strip().strip('"').lower() for cell in header.split(delimiter)}
        if names & wanted:
            return delimiter
    return None


def _table(text: str, delimiter: str, column: str, name: str) -> list[Prompt]:
    header, *body = _rows(text, delimiter, name) or [[]]
    names = [cell.strip().lower() for cell in header]
    wanted = [column.strip().lower()] if column else list(PROMPT_COLUMNS)
    own = next((names.index(want) for want in wanted if want in names), None)
    if own is None:
        there = ", ".join(cell.strip() for cell in header) or "no header"
        raise UsageError(f"{name} has no column {' or '.join(map(repr, wanted))}; it has {there}")
    kind = names.index(CATEGORY_COLUMN) if CATEGORY_COLUMN in names else None
    prompts = []
    for line in body:
        prompt = " ".join(split_lines(line[own])).strip() if own < len(line) else ""
        if prompt:
            category = line[kind].strip() if kind is not None and kind < len(line) else ""
            prompts.append(Prompt(prompt, category))
    return prompts


def _rows(text: str, delimiter: str, name: str) -> list[list[str]]:
    """Return the rows of a table that are not empty.

    :raises UsageError: for what is no CSV, such as a quote that nothing closes: it would swallow all that follows.
    """
    end = "\x1fend"  # comes out as a row of its own, unless a quote is open
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
