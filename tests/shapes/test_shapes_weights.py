"""The shipped weights: they load, are small enough, and know the world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens_blip import BlipGuidance
from guidelens_worlds.evaluate import naming
from guidelens_worlds.shapes.definition import WORLD
from guidelens_worlds.shapes.files import FILES, WEIGHTS
from guidelens_worlds.shapes.world import render
from pictures import scenes


def test_they_fit_into_25_megabytes() -> None:
    assert sum(path.stat().st_size for path in Path(WEIGHTS).rglob("*") if path.is_file()) < 25e6


@pytest.mark.parametrize("load", [FILES.load_generator, FILES.load_blip, lambda: FILES.load_blip("clean")])
def test_fingerprints_are_stable(load: Callable[[], Any]) -> None:
    first, second = load(), load()
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) >= 16


def test_the_generator_is_what_the_design_says() -> None:
    generator = FILES.load_generator()
    assert generator.image_shape == (3, 32, 32)
    assert generator.prediction == "v"
    assert not generator.learned_variance
    assert len(generator.alphas_cumprod) == 1000
    out = generator(torch.zeros(2, 3, 32, 32), torch.tensor([0, 999]))
    assert out.shape == (2, 3, 32, 32)
    assert out.isfinite().all()


@pytest.mark.parametrize("variant", ["x0", "clean"])
def test_single_objects_are_named(variant: Any) -> None:
    """32 names, clean scenes; the model card has the score on 2,000 held-out ones."""
    model = FILES.load_blip(variant)
    shown = scenes(64, seed=77_000_000, num_items=1)
    images = torch.stack([torch.from_numpy(render(scene)) for scene in shown])
    for head, accuracy in naming(WORLD, model, shown, images).items():
        assert accuracy >= 0.95, head


def test_the_guidance_model_offers_scales_for_its_objectives() -> None:
    model = FILES.load_blip()
    assert isinstance(model, BlipGuidance)
    assert model.default_scales == FILES.default_scales
    assert set(model.default_scales) == model.objectives == {"itc", "itm", "cap"}


def test_each_variant_is_a_model_of_its_own() -> None:
    assert FILES.load_blip("x0").fingerprint != FILES.load_blip("clean").fingerprint
