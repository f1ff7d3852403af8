"""Read prompts from tables, JSON, text files and standard input, and select some of them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.text import STDIN, check_characters, read_text, split_lines

from .facts import facts_of
from .tables import read_table, sniffed_delimiter, spelled

logger = logging.getLogger(__name__)

PROMPT_COLUMNS = ("prompt", "prompts", "caption", "captions", "text")
"""The default names of the column with the prompts, in any case."""

OTHER_COLUMNS = ("category", "foil", "picture")
"""Columns with other parts of a prompt (:class:`guidelens.contracts.Prompt`)."""

FACTS_COLUMN = "facts"

_USUAL = {".csv": ",", ".tsv": "\t"}


def read_prompts(path: str | Path, column: str = "") -> list[Prompt]:
    """Read prompts from a table, JSON or text.

    The suffix determines the format. ``.csv`` and ``.tsv`` are tables with a header. ``.json`` and ``.jsonl`` are JSON.
    ``.txt`` is text, with one prompt per line. Other files and standard input are JSON lines if the first line is a
    JSON object, a table if the first line has a column of prompts, and text otherwise.

    The delimiter of a ``.csv`` is read from its header, and logged if it is not a comma. JSON contains texts or
    objects, in a list or as the values of an object. The entries of an object are columns. The columns ``category``,
    ``foil`` and ``picture`` and, in JSON, ``facts`` (:func:`guidelens.prompts.facts_of`) fill the other fields of a
    prompt. Space around values and empty prompts are dropped. Lines end with ``\\n`` or ``\\r\\n``.

    :param path: a file, or ``-`` for standard input.
    :param column: the column with the prompts, in any case; empty: one of :data:`PROMPT_COLUMNS`.
    :raises UsageError: if the file cannot be read, has no such column, or contains no prompt.
    """
    from_stdin = str(path) == STDIN
    name = "standard input" if from_stdin else str(path)
    text = read_text(path, name if from_stdin else f"the prompts {name}")
    suffix = "" if from_stdin else Path(path).suffix.lower()
    entries = _entries(text, suffix, name, column)
    if entries is None:
        if column:
            raise UsageError(f"{name} is text, one prompt a line: it has no column {column!r}")
        prompts = [Prompt(line.strip()) for line in split_lines(text) if line.strip()]
    else:
        prompts = _prompts(entries, column, name)
    if not prompts:
        raise UsageError(f"{name} holds no prompt")
    return prompts


def _entries(text: str, suffix: str, name: str, column: str) -> list[Any] | None:
    """Return the entries of a table or of JSON; None for plain text."""
    if suffix == ".json":
        return _json_entries(text, name, column)
    first = next((line for line in split_lines(text) if line.strip()), "")
    if suffix == ".jsonl" or (suffix not in _USUAL and _is_object(first)):
        if suffix == ".txt":
            raise UsageError(f"{name} holds JSON objects, not prompts as text: rename it to end in .jsonl")
        return _json_lines(text, name)
    if suffix == ".txt":
        return None
    wanted = _wanted(column)
    usual = _USUAL.get(suffix)
    delimiter = usual if suffix == ".tsv" else sniffed_delimiter(text, wanted) or usual
    if delimiter is None:
        return None
    if usual is not None and delimiter != usual and delimiter in text.partition("\n")[0]:
        logger.warning("%s: columns are separated by %s", name, spelled(delimiter))
    rows = read_table(text, delimiter, name)
    names = list(rows.header)
    if not set(wanted) & set(names):
        there = ", ".join(rows.spelling) or "no header"
        raise UsageError(f"{name} has no column {' or '.join(map(repr, wanted))}; it has {there}")
    return [dict(zip(names, row, strict=False)) for row in rows.body]


def _wanted(column: str) -> list[str]:
    return [column.strip().lower()] if column else list(PROMPT_COLUMNS)


def _is_object(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _json_entries(text: str, name: str, column: str) -> list[Any]:
    """Return the entries of a JSON list, or the values of a JSON object.

    :raises UsageError: if it is not JSON, or neither a list nor an object.
    """
    found = _parsed(text, name, "")
    if isinstance(found, dict) and not set(found) & set(_wanted(column)):
        return list(found.values())
    if not isinstance(found, list):
        raise UsageError(f"{name} must hold a JSON list, or an object, of texts or objects")
    return found


def _json_lines(text: str, name: str) -> list[Any]:
    """Return the entries of JSON lines.

    :raises UsageError: if a line is not JSON. The message has its number.
    """
    numbered = enumerate(split_lines(text), 1)
    return [_parsed(line, name, f"line {number}: ") for number, line in numbered if line.strip()]


def _parsed(text: str, name: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"cannot read the prompts {name}: {where}it is not JSON: {error}") from None


def _prompts(entries: Sequence[Any], column: str, name: str) -> list[Prompt]:
    """Return the prompts of texts, objects or rows. Entries without a text are left out."""
    prompts = []
    for number, entry in enumerate(entries, 1):
        where = f"{name}: entry {number}"
        if isinstance(entry, str):
            prompt = Prompt(_one_line(check_characters(entry, where)))
        elif isinstance(entry, Mapping):
            prompt = _prompt({str(key).strip().lower(): value for key, value in entry.items()}, column, where)
        else:
            raise UsageError(f"{where} is neither text nor an object with a text, but {type(entry).__name__}")
        if prompt.text:
            prompts.append(prompt)
    return prompts


def _prompt(columns: Mapping[str, Any], column: str, where: str) -> Prompt:
    wanted = _wanted(column)
    text = next((columns[want] for want in wanted if want in columns), "" if "" in columns else None)
    if not isinstance(text, str):
        there = ", ".join(map(repr, columns)) or "nothing"
        raise UsageError(f"{where} has no text {' or '.join(map(repr, wanted))}; it has {there}")
    others = {own: columns.get(own) or "" for own in OTHER_COLUMNS}
    for own, value in others.items():
        if not isinstance(value, str):
            raise UsageError(f"{where}: {own} must be text, not {value!r}")
    check_characters(text + "".join(others.values()), where)  # JSON can encode a lone surrogate
    try:
        listed = columns.get(FACTS_COLUMN) if isinstance(columns.get(FACTS_COLUMN), list) else []
        facts = facts_of(listed or [])
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    return Prompt(
        text=_one_line(text),
        category=others["category"].strip(),
        facts=facts,
        foil=_one_line(others["foil"]) or None,
        picture=others["picture"].strip(),
    )


def _one_line(text: str) -> str:
    return " ".join(split_lines(text)).strip()


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
    :param seed: None takes the first ``limit`` prompts; a number draws them at random. The draw does not depend on the
        order of the prompts, and a larger ``limit`` adds to the draw of a smaller one.
    :param name: the name of the prompts in error messages.
    :raises UsageError: if no prompt has a given category, or ``limit`` is below 1.
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
