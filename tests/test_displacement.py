"""The engine warns of guidance that throws x_t off its scale exactly where the shipped models then meet such an x_t."""

from __future__ import annotations

from itertools import islice

import pytest
from guidelens.engine import Engine, Sample
from guidelens.guidance.displacement import LARGEST
from guidelens.sampling import Sampling
from guidelens_worlds.shapes.files import FILES
from toys import Constant

SPOILT = [
    ("paper", {}, "ddim", 50),
    ("freedom", {}, "ddpm", 50),
    ("freedom", {"scale": 0.1}, "ddim", 25),
    ("universal", {"clip_after_guidance": False, "recurrence": 1}, "ddim", 50),
]
FINE = [
    ("paper", {}, "ddpm", 50),
    ("paper", {"start": 0.05}, "ddim", 50),
    ("paper", {}, "ddim", "ddim50"),
    ("paper", {"normalize": "rms", "scale": 0.1}, "ddpm", 50),
    ("dps", {}, "ddpm", 50),
    ("freedom", {}, "ddpm", "ddim50"),
    ("freedom", {"start": 0.05}, "ddpm", 50),
    ("universal", {}, "ddim", 50),
    ("universal", {"clip_after_guidance": False}, "ddim", 50),
    ("mpgd", {}, "ddim", 50),
    ("lgd", {"smoothing": 2}, "ddpm", 50),
    ("blended", {}, "ddpm", 25),
]


@pytest.fixture(scope="module", name="models")
def the_shipped_models():
    return FILES.load_generator(), FILES.load_blip()


@pytest.mark.parametrize(("preset", "overrides", "sampler", "steps"), SPOILT + FINE)
def test_the_warning_says_what_happens(preset, overrides, sampler, steps, models, caplog):
    engine = Engine(
        *models,
        Sampling.preset(preset, steps=steps, sampler=sampler, **overrides),
        device="cpu",
    )
    stream = engine.stream([Sample("a large red circle", Constant(itc=1.0), 3)])
    largest = max(step.x_t.square().mean().sqrt().item() for step in islice(stream, 3))
    stream.close()
    spoilt = (preset, overrides, sampler, steps) in SPOILT
    assert (largest > LARGEST) == spoilt, largest
    assert any("spoil the picture" in message for message in caplog.messages) == spoilt
