"""Colours of objectives and schedules: fixed for the paper's, by hash for others, readable as text."""

from __future__ import annotations

import re

import pytest
from guidelens.colours import COLOURS, FIXED, NEUTRAL, colour, colour_number, palette, style_sheet


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("number", range(len(COLOURS)))
def test_every_shade_is_readable_on_cards(number: int) -> None:
    assert contrast(COLOURS[number].light, "#ffffff") >= 4.5
    assert contrast(COLOURS[number].dark, "#1d2024") >= 4.5


def test_the_papers_names_have_fixed_colours() -> None:
    assert [colour_number(name) for name in FIXED] == list(FIXED.values())
    assert colour_number("blend:itc=0.3,cap=0.7") == colour_number("BLEND") == FIXED["blend"]
    assert colour_number("itc@blip") == FIXED["itc"]
    assert colour("none") == colour("unguided") == COLOURS[NEUTRAL]


def test_other_names_keep_theirs() -> None:
    number = colour_number("coca")
    assert number == colour_number("coca")
    assert number not in (*FIXED.values(), NEUTRAL)


def test_names_that_are_seen_together_differ() -> None:
    names = ["blend:itc=0.3,cap=0.7", "blend", "itc", "unguided", "curve:itc=1@0"]
    numbers = palette(names)
    assert list(numbers) == names
    assert len(set(numbers.values())) == len(names)
    assert numbers["blend"] == FIXED["blend"]


def test_the_style_sheet_has_both_shades() -> None:
    sheet = style_sheet()
    assert re.findall(r"--c0: (#\w{6})", sheet) == [COLOURS[0].light, COLOURS[0].dark]
    assert f".line.c{NEUTRAL} {{ stroke: var(--c{NEUTRAL}); }}" in sheet
