"""Prompts, pictures and captions of the shapes world stay the same: recorded results refer to them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import get_args

import numpy as np
from guidelens_worlds.prompts import Split
from guidelens_worlds.shapes.categories import Category
from guidelens_worlds.shapes.language import LANGUAGE
from guidelens_worlds.shapes.prompts import PROMPTS
from guidelens_worlds.shapes.world import render
from pictures import scenes


def digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_prompts() -> None:
    categories = [name for name in get_args(Category) if name not in ("demo", "all")]
    drawn = [p for split in get_args(Split) for name in categories for p in PROMPTS.draw(name, 12, 1, split)]
    assert digest(f"{p.category} {p.text} {p.reference}" for p in drawn) == "c5e4fdfb976c1107"


def test_pictures() -> None:
    pixels = np.stack([np.round((render(scene) + 1) * 127.5) for scene in scenes(60, seed=4)])
    assert hashlib.sha256(pixels.astype(np.uint8).tobytes()).hexdigest()[:16] == "0aabe8e82006f820"


def test_captions() -> None:
    """The captions of a training step, which take all their randomness from its seed."""
    rng = random.Random(2)
    lines = []
    for scene in scenes(60, seed=4):
        description = LANGUAGE.describe(scene, rng, full=rng.random() < 0.5)
        wrong = LANGUAGE.corrupt(description, scene, rng)
        lines += [LANGUAGE.wording(d, rng) for d in (description, wrong) if d is not None]
    assert digest(lines) == "97c3556ac155bcf2"
