"""One colour per objective: readable on the pages' backgrounds, told apart with colour blindness, stable."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from guidelens.analysis.plot import Curve, log_plot
from guidelens.colours import COLOURS, FIXED, NEUTRAL, colour, colour_number, palette, style_sheet
from guidelens.report import page as page_module
from test_report import contrast

PAPER = ("#fbfbf9", "#ffffff")
NIGHT = ("#15171a", "#1d2024")

# Machado, Oliveira & Fernandes (2009), severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def oklab(shade: str, vision: str) -> np.ndarray:
    """Return how a shade looks, in OKLab (Ottosson 2020)."""
    coded = np.array([int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(VISION[vision] @ linear, 0, 1)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    axes = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return axes @ np.cbrt(cones @ seen)


def test_backgrounds_are_those_of_the_pages() -> None:
    style = (Path(page_module.__file__).parent / "templates" / "page.css").read_text()
    assert re.findall(r"--(?:paper|card): (#\w+)", style) == [*PAPER, *NIGHT]


def test_every_shade_is_readable_as_text() -> None:
    for each in COLOURS:
        assert all(contrast(each.light, ground) >= 4.5 for ground in PAPER), each
        assert all(contrast(each.dark, ground) >= 4.5 for ground in NIGHT), each


@pytest.mark.parametrize("vision", VISION)
def test_fixed_colours_are_told_apart(vision: str) -> None:
    for shade in ("light", "dark"):
        seen = {name: oklab(getattr(colour(name), shade), vision) for name in FIXED}
        for one, other in itertools.combinations(FIXED, 2):
            assert np.linalg.norm(seen[one] - seen[other]) >= 0.08, (shade, one, other)


def test_options_models_and_case_keep_the_colour() -> None:
    assert colour_number("ITC") == colour_number("itc") == colour_number("itc@clip:arch=ViT-B-32") == 0
    assert colour_number("blend:itc=0.3,cap=0.7") == colour_number("blend")
    assert colour_number("none") == NEUTRAL


def test_other_names_have_hashed_colours_that_are_nobody_elses() -> None:
    assert [colour_number(name) for name in ("siglip", "yesno", "contrast", "lpips")] == [8, 6, 5, 7]
    names = [f"objective-{i}" for i in range(40)]
    assert {colour_number(name) for name in names} == set(range(len(FIXED), NEUTRAL))


def test_names_seen_together_have_different_colours() -> None:
    numbers = palette(["blend:itc=0.3,cap=0.7", "blend", "itc", "siglip"])
    assert list(numbers) == ["blend:itc=0.3,cap=0.7", "blend", "itc", "siglip"]
    assert numbers["blend"] == FIXED["blend"]
    assert numbers["itc"] == FIXED["itc"]
    assert len(set(numbers.values())) == 4
    many = palette([f"objective-{i}" for i in range(20)])
    assert set(many.values()) == set(range(len(FIXED), NEUTRAL))


def test_style_sheet_has_every_colour_in_both_shades() -> None:
    light, _, dark = style_sheet().partition("@media")
    for i, each in enumerate(COLOURS):
        assert f"--c{i}: {each.light};" in light
        assert f"--c{i}: {each.dark};" in dark
        assert f".line.c{i} {{ stroke: var(--c{i}); }}" in dark


def test_plot_uses_the_colour_of_the_objective() -> None:
    svg = log_plot([Curve("cap", [1.0, 2.0]), Curve("itc", [1.0, 3.0])], "gradients")
    assert f'fill="{colour("itc").light}"' in svg
    assert svg.index(colour("cap").light) < svg.index(colour("itc").light)
