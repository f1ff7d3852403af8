"""Line numbers of the keys in a TOML file. TOML parsers return values without their lines."""

from __future__ import annotations

import re

Place = tuple[str | int, ...]
"""The path of a value: ``("grid", 1, "steps")`` is the key ``steps`` of the second ``[[grid]]``."""

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""|' r"'''.*?'''|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'|" r"#[^\n]*", re.DOTALL
)


def find_lines(text: str) -> dict[Place, int]:
    """Return the line number (from 1) of every table and key of a valid TOML text. Keys inside inline tables and
    arrays are not listed. They have the line of the key that contains them.
    """
    places: dict[Place, int] = {(): 1}
    table: Place = ()
    counts: dict[Place, int] = {}
    depth = 0
    for number, (raw, line) in enumerate(zip(text.split("\n"), _without_strings(text), strict=True), start=1):
        header, key = (_HEADER.match(raw), _KEY.match(raw)) if depth == 0 else (None, None)
        if header is not None and line[header.start(1)] == "[":
            table = _table(header[1], _parts(header[2]), counts)
            places.setdefault(table, number)
            continue
        if key is not None and line[key.end() - 1] == "=":
            place = table
            for part in _parts(key[1]):
                place = (*place, part)
                places.setdefault(place, number)
            line = line[key.end() :]
        depth += sum(line.count(c) for c in "[{") - sum(line.count(c) for c in "]}")
    return places


def line_of(lines: dict[Place, int], place: Place) -> int:
    """Return the line of a place, or of the nearest enclosing key or table with a line."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _table(bracket: str, names: list[str], counts: dict[Place, int]) -> Place:
    """Return the place of a table. The name of each array of tables is followed by an index."""
    place: Place = ()
    for i, name in enumerate(names):
        place = (*place, name)
        if bracket == "[[" and i == len(names) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]


def _without_strings(text: str) -> list[str]:
    """Return the lines with strings and comments blanked, to ignore brackets and ``=`` inside them."""
    blank = _STRING.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return blank.split("\n")
