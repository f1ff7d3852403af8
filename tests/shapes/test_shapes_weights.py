"""The shipped weights: they load, are small enough, and know the world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens_blip import BlipGuidance
from guidelens_guided_diffusion import load_generator
from guidelens_worlds.shapes.files import BLIP, BLIP_CLEAN, GENERATOR, WEIGHTS
from guidelens_worlds.shapes.guidance import DEFAULT_SCALES, load_guidance
from guidelens_worlds.shapes.training.evaluate import naming
from guidelens_worlds.shapes.world import render
from pictures import scenes

FILES = (GENERATOR, BLIP, BLIP_CLEAN)
ABSENT = [path.name for path in FILES if not path.is_file()]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"weights not shipped yet: {', '.join(ABSENT)}")


def test_they_fit_into_25_megabytes() -> None:
    assert sum(path.stat().st_size for path in Path(WEIGHTS).rglob("*") if path.is_file()) < 25e6


@pytest.mark.parametrize(
    "load", [lambda: load_generator(GENERATOR), load_guidance, lambda: load_guidance("clean")]
)
def test_fingerprints_are_stable(load: Callable[[], Any]) -> None:
    first, second = load(), load()
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) >= 16


def test_the_generator_is_what_the_design_says() -> None:
    generator = load_generator(GENERATOR)
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
    model = load_guidance(variant)
    shown = scenes(64, seed=77_000_000, num_items=1)
    images = torch.stack([torch.from_numpy(render(scene)) for scene in shown])
    for head, accuracy in naming(model, shown, images).items():
        assert accuracy >= 0.95, head


def test_the_guidance_model_offers_scales_for_its_objectives() -> None:
    model = load_guidance()
    assert isinstance(model, BlipGuidance)
    assert model.default_scales == dict(DEFAULT_SCALES)
    assert set(DEFAULT_SCALES) == model.objectives == {"itc", "itm", "cap"}


def test_each_variant_is_a_model_of_its_own() -> None:
    assert load_guidance("x0").fingerprint != load_guidance("clean").fingerprint
