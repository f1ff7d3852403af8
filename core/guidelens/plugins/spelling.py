"""Read and write the spelling of a component: ``name:key=value,key=value``.

A value that contains a comma or starts with a quote needs single or double quotes. Inside, this quote is doubled:
``blip:negatives='a cat, a dog'``, ``x:text='it''s'``. Outside quotes all other characters are literal, so a path
needs no escaping. In a shell, put the whole component in the other kind of quotes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from guidelens.errors import UsageError


def parse_component(text: str) -> tuple[str, dict[str, str]]:
    """Split ``name:key=value,...`` into the name and the options as text, in their order.

    :raises UsageError: if a part is not ``key=value``, a key is repeated, or a quote is not closed.
    """
    name, colon, rest = text.strip().partition(":")
    name = name.strip()
    if not name:
        raise UsageError(f"component {text!r} has no name; write name or name:key=value,key=value")
    options: dict[str, str] = {}
    if not colon:
        return name, options
    position = 0
    while position <= len(rest):
        key, value, position = _parse_option(rest, position, text)
        if key in options:
            raise UsageError(f"component {text!r} gives the option {key!r} twice")
        options[key] = value
    return name, options


def split_components(text: str) -> list[str]:
    """Split the spellings of several components, ``a:x=1,y=2,b,c:z=3``: here ``a:x=1,y=2``, ``b`` and ``c:z=3``.

    A part between commas starts a component if it is not ``key=value``: it has no ``=``, or a colon before it.

    :raises UsageError: if a quote is not closed.
    """
    found: list[str] = []
    position = 0
    while position <= len(text):
        equals, comma = text.find("=", position), text.find(",", position)
        end = len(text) if comma < 0 else comma
        has_value = 0 <= equals < end
        if has_value and text[equals + 1 : equals + 2] in ("'", '"'):
            _, end = _parse_quoted(text, equals + 1, text)
        part = text[position:end].strip()
        if found and has_value and ":" not in text[position:equals]:
            found[-1] += f",{part}"
        else:
            found.append(part)
        position = end + 1
    return found


def _parse_option(rest: str, start: int, whole: str) -> tuple[str, str, int]:
    """Read a ``key=value`` from ``start``. Return key, value and the start of the next option."""
    equals = rest.find("=", start)
    key = rest[start:equals].strip() if equals >= 0 else ""
    if not key or "," in key:
        part = rest[start:].partition(",")[0]
        raise UsageError(
            f"component {whole!r}: {part!r} is not key=value; write name:key=value,key=value, and "
            "put a value that holds a comma in quotes"
        )
    begin = equals + 1
    if rest[begin : begin + 1] in ("'", '"'):
        value, end = _parse_quoted(rest, begin, whole)
    else:
        comma = rest.find(",", begin)
        end = len(rest) if comma < 0 else comma
        value = rest[begin:end].strip()
    return key, value, end + 1


def _parse_quoted(rest: str, begin: int, whole: str) -> tuple[str, int]:
    """Read a quoted value that opens at ``begin``. Return it and the position of the next comma or the end."""
    quote = rest[begin]
    value = ""
    position = begin + 1
    while True:
        end = rest.find(quote, position)
        if end < 0:
            raise UsageError(f"component {whole!r}: the quote {quote} is not closed")
        value += rest[position:end]
        if rest[end + 1 : end + 2] != quote:
            break
        value += quote
        position = end + 2
    after = rest[end + 1 :]
    if after.strip() and not after.lstrip().startswith(","):
        raise UsageError(f"component {whole!r}: a comma must follow the closing quote, not {after.strip()!r}")
    gap = len(after) - len(after.lstrip())
    return value, end + 1 + gap


def format_component(name: str, options: Iterable[tuple[str, str]]) -> str:
    """Return the spelling that :func:`parse_component` reads."""
    written = ",".join(f"{key}={_quoted(value)}" for key, value in options)
    return f"{name}:{written}" if written else name


def _quoted(value: str) -> str:
    if "," not in value and value == value.strip() and value[:1] not in ("'", '"'):
        return value
    quote = '"' if "'" in value else "'"
    return quote + value.replace(quote, quote * 2) + quote


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that is similar to ``word`` or contains it: ``open-clip`` for ``clip``."""
    lowered = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.7)
    parts = [choice for choice in lowered if word.lower() in re.split(r"[-_./]", choice)]
    best = parts if len(parts) == 1 else found
    return lowered[best[0]] if best else None


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)``, or an empty text if no choice is similar."""
    found = nearest(word, choices)
    return f" (did you mean {found!r}?)" if found else ""
