"""The colours of objectives and schedules. Each has one colour, the same on every page and in every figure.

The paper's objectives and schedules have fixed colours, which people with any common colour blindness can distinguish.
The colour of any other name comes from a hash of the name. Each colour has a shade for light backgrounds and one for
dark backgrounds. Both are readable as text.

Importing this loads no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """Two shades of a colour, ``#rrggbb``, for light and for dark backgrounds."""

    light: str
    dark: str


COLOURS = (
    Colour("#1b3d85", "#5ba0fa"),
    Colour("#9b2aae", "#bf7cb7"),
    Colour("#b15608", "#fcad6a"),
    Colour("#167e66", "#80fcd3"),
    Colour("#6b1028", "#f85c63"),
    Colour("#4d4a00", "#f2ee86"),
    Colour("#0f7899", "#4cc8e8"),
    Colour("#6a5fd0", "#8f80ea"),
    Colour("#d0246c", "#f3a5bd"),
    Colour("#565b63", "#9aa0a8"),
)
"""The colours by number. Class names on pages contain the number (``c0``, ``c1``, ...)."""

FIXED = {"itc": 0, "itm": 1, "cap": 2, "shift": 3, "blend": 4}
NEUTRAL = len(COLOURS) - 1
"""The number of grey, for pictures without guidance and for values of several objectives, such as a cosine."""

_UNGUIDED = ("none", "unguided")
_HASHED = range(len(FIXED), NEUTRAL)


def colour_number(name: str) -> int:
    """Return the number of a name's colour.

    :param name: an objective, a schedule with or without options (``blend:itc=0.3,cap=0.7``), or an objective of a
        model (``itc@blip``). Only the part before the options or the model is used, in any case.
    """
    base = name.replace("@", ":").partition(":")[0].strip().lower()
    if base in _UNGUIDED:
        return NEUTRAL
    if base in FIXED:
        return FIXED[base]
    return _HASHED[_hashed(name)]


def colour(name: str) -> Colour:
    """Return a name's colour; see :func:`colour_number`."""
    return COLOURS[colour_number(name)]


def palette(names: Iterable[str]) -> dict[str, int]:
    """Return the numbers of the colours of names that are shown together.

    Each name gets its own colour (:func:`colour_number`). If several names have the same colour, one of them keeps it:
    the plain spelling (``blend`` before ``blend:itc=0.3``), or else the first name. Each other name gets the next free
    colour. Colours repeat if none is free.
    """
    wanted = {name: colour_number(name) for name in names}
    order = sorted(wanted, key=lambda name: name.lower() not in FIXED)
    taken: dict[str, int] = {}
    for name in order:
        number = wanted[name]
        if number in taken.values() and number != NEUTRAL:
            start = _hashed(name)
            others = [_HASHED[(start + i) % len(_HASHED)] for i in range(len(_HASHED))]
            number = next((n for n in others if n not in taken.values()), number)
        taken[name] = number
    return {name: taken[name] for name in wanted}


def style_sheet() -> str:
    """Return CSS with the colours ``--cN`` in both shades, and the classes ``cN`` of lines, bands, dots and keys."""
    numbers = range(len(COLOURS))
    light = " ".join(f"--c{i}: {COLOURS[i].light};" for i in numbers)
    dark = " ".join(f"--c{i}: {COLOURS[i].dark};" for i in numbers)
    rules = [
        f".line.c{i} {{ stroke: var(--c{i}); }} .band.c{i}, .spot.c{i} {{ fill: var(--c{i}); }} "
        f".key.c{i} {{ color: var(--c{i}); }}"
        for i in numbers
    ]
    return "\n".join(
        [f":root {{ {light} }}", f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}", *rules]
    )


def _hashed(name: str) -> int:
    digest = hashlib.blake2b(name.strip().lower().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % len(_HASHED)
