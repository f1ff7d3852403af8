"""The weights of the embedded worlds: they load, are small enough, and know their world."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from guidelens_blip import BlipGuidance
from guidelens_worlds.evaluate import naming
from guidelens_worlds.files import WorldFiles
from guidelens_worlds.shapes.definition import WORLD as SHAPES
from guidelens_worlds.things.definition import WORLD as THINGS
from guidelens_worlds.training.pictures import pictures
from guidelens_worlds.world import World

each_world = pytest.mark.parametrize("world", [SHAPES, THINGS], ids=lambda world: world.name)


def test_they_fit_into_40_megabytes() -> None:
    files = [path for world in (SHAPES, THINGS) for path in world.files.folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6


@each_world
@pytest.mark.parametrize(
    "load", [WorldFiles.load_generator, WorldFiles.load_blip, lambda files: files.load_blip("clean")]
)
def test_fingerprints_are_stable(world: World, load: Callable[[WorldFiles], Any]) -> None:
    first, second = load(world.files), load(world.files)
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) >= 16


@each_world
def test_the_generator_is_what_the_design_says(world: World) -> None:
    generator = world.files.load_generator()
    size = world.unet["image_size"]
    assert generator.image_shape == (3, size, size)
    assert generator.prediction == "v"
    assert not generator.learned_variance
    assert len(generator.alphas_cumprod) == 1000
    out = generator(torch.zeros(2, 3, size, size), torch.tensor([0, 999]))
    assert out.shape == (2, 3, size, size)
    assert out.isfinite().all()


@each_world
@pytest.mark.parametrize("variant", ["x0", "clean"])
def test_single_objects_are_named(world: World, variant: Any) -> None:
    """All kinds as names, clean scenes; the model card has the score on 2,000 held-out ones."""
    model = world.files.load_blip(variant)
    shown = [world.random_scene(random.Random(77_000_000 + i), 1) for i in range(64)]
    for head, accuracy in naming(world, model, shown, pictures(world, shown)).items():
        assert accuracy >= 0.95, head


@each_world
def test_the_guidance_model_offers_scales_for_its_objectives(world: World) -> None:
    model = world.files.load_blip()
    assert isinstance(model, BlipGuidance)
    assert model.default_scales == world.files.default_scales
    assert set(model.default_scales) == model.objectives == {"itc", "itm", "cap"}


@each_world
def test_each_variant_is_a_model_of_its_own(world: World) -> None:
    assert world.files.load_blip("x0").fingerprint != world.files.load_blip("clean").fingerprint
