"""Whole trajectories through the engine's own steps, held to the original guided-diffusion code."""

from __future__ import annotations

import pytest
from golden_numbers import RESPACINGS, GoldenGenerator, assert_most_close, golden
from guidelens.contracts import TextBatch
from guidelens.diffusion import ReplayedNoise
from guidelens.engine import Sample
from guidelens.sampling import Sampling
from toys import make_engine


class MeanColour:
    """The golden guidance as an objective: L = 0.02 * |mean over pixels - target|^2, so that log p = -L."""

    objectives = frozenset({"colour"})
    fingerprint = "mean-colour"

    def encode_text(self, prompts):
        return TextBatch(tuple(prompts))

    def losses(self, images, text, objectives):
        assert set(objectives) == {"colour"}
        target = images.new_tensor([0.5, -0.25, 0.1])
        return {"colour": 0.02 * (images.mean(dim=(2, 3)) - target).square().sum(dim=1)}


class Colour:
    def weights(self, progress):
        return {"colour": 1.0}


@pytest.mark.parametrize("guided", [False, True], ids=["unguided", "guided"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("name", RESPACINGS)
def test_trajectory_is_the_original_codes(name, sampler, guided):
    numbers, generator = golden(), GoldenGenerator()
    engine = make_engine(
        generator, MeanColour(), Sampling(steps=RESPACINGS[name]), sampler=sampler, device="cpu"
    )
    schedule = Colour() if guided else None
    samples = [Sample("a picture", schedule, seed) for seed in (0, 1)]
    noise = ReplayedNoise([numbers["forward/x"], *numbers[f"{name}/noise"]])
    steps = list(engine.stream(samples, noise=noise))
    assert_most_close(
        steps[-1].sample,
        numbers[f"{name}/{sampler}/{'guided' if guided else 'unguided'}/final"],
        atol=1e-2,
        share=0.99,
    )
    assert generator.evaluations == engine.settings.steps


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_golden_guidance_is_visible(sampler):
    """The ends differ by far more than the tolerance above, so that dropping the guidance fails it."""
    numbers = golden()
    ends = [numbers[f"10/{sampler}/{kind}/final"] for kind in ("guided", "unguided")]
    assert ((ends[0] - ends[1]).abs() > 1e-2).double().mean() > 0.05
