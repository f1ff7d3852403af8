"""Presets against trajectories of their authors' own code; tests/golden/README.md says how they were computed."""

from __future__ import annotations

import pytest
import torch
from golden_world import SEEDS, SHAPE, STEPS, read, trajectory
from guidelens.diffusion import KeyedNoise


@pytest.fixture(scope="module", name="golden")
def the_golden_file():
    return read("presets_dps_freedom")


def noises_named(golden, method, wanted):
    tensors, metadata = golden
    order = metadata[method]["noise_order"]
    return [tensors[f"{method}/noises"][order.index(name)] for name in wanted]


def own_noise(laps):
    """The names of the draws that are the sample's own: those of each step's last repetition."""
    return [f"step {step} lap {laps[step] - 1} sample" for step in range(STEPS - 1)]


def check(golden, method, variant, got):
    tensors, _ = golden
    for name, values in zip(("x_prev", "pred_x0"), got, strict=True):
        torch.testing.assert_close(values, tensors[f"{method}/{variant}/{name}"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("variant", "learned_variance", "overrides"),
    [
        ("as_authors", True, {}),
        ("fixed_variance", False, {}),
        ("no_clamps", True, {"clip_denoised": False}),
    ],
)
@pytest.mark.parametrize("objective", ["square", "norm"])
def test_dps(golden, variant, learned_variance, overrides, objective):
    """Of a squared residual the preset takes the norm; a loss that is a norm goes without normalisation."""
    noises = noises_named(golden, "dps", [f"step {step} sample" for step in range(STEPS - 1)])
    if objective == "norm":
        overrides = {**overrides, "normalize": "none"}
    got = trajectory(golden[0], "dps", objective, noises, learned_variance=learned_variance, **overrides)
    check(golden, "dps", variant, got)


@pytest.mark.parametrize("objective", ["square", "norm"])
@pytest.mark.parametrize(
    ("variant", "overrides"), [("as_authors", {}), ("no_time_travel", {"recurrence": 1})]
)
@pytest.mark.parametrize("learned_variance", [False, True])
def test_freedom(golden, variant, overrides, objective, learned_variance):
    """A variance head is ignored, as in the authors' code."""
    laps = golden[1]["freedom"]["variants"]["as_authors"]["laps"]
    noises = noises_named(golden, "freedom", own_noise(laps))
    got = trajectory(golden[0], "freedom", objective, noises, learned_variance=learned_variance, **overrides)
    check(golden, "freedom", variant, got)


def test_the_other_draws_of_the_file_are_ours(golden):
    """So that the trajectories above can only agree if repetitions draw from their own keys."""
    ours = KeyedNoise(SEEDS)
    for name, given in zip(golden[1]["freedom"]["noise_order"], golden[0]["freedom/noises"], strict=True):
        _, step, _, lap, purpose = name.split()
        purpose = "repeat" if purpose == "sample" else purpose
        same = torch.equal(ours.normal(SHAPE, purpose, int(step), int(lap)).double(), given)
        assert same == (purpose == "renoise" or (step in "123" and lap != "9"))


@pytest.fixture(scope="module", name="more")
def the_second_golden_file():
    return read("presets_universal_mpgd")


@pytest.mark.parametrize("variant", ["recurring", "no_time_travel"])
def test_universal(golden, more, variant):
    tensors, metadata = more
    settings = metadata["universal"]["variants"][variant]
    assert (settings["recurrence"] == 10) == (variant == "recurring")
    overrides = {} if variant == "recurring" else {"recurrence": 1}
    states, _ = trajectory(
        golden[0],
        "universal",
        settings["loss"],
        [],
        learned_variance=True,
        scale=settings["scale"],
        **overrides,
    )
    torch.testing.assert_close(states, tensors[f"universal/{variant}/x_prev"], rtol=1e-9, atol=1e-9)
    outside = tensors[f"universal/{variant}/guided_x0"].abs() == 1
    assert 0.2 < outside.double().mean() < 0.9  # the clamp after guidance matters


@pytest.mark.parametrize("variant", ["as_authors", "no_clamp", "deterministic"])
def test_mpgd(golden, more, variant):
    tensors, metadata = more
    settings = metadata["mpgd"]["variants"][variant]
    states, _ = trajectory(
        golden[0],
        "mpgd",
        settings["loss"],
        tensors["mpgd/noises"],
        learned_variance=True,
        eta=None if variant == "as_authors" else settings["eta"],
        scale=settings["scale"],
        clip_denoised=settings["clip_denoised"],
    )
    torch.testing.assert_close(states, tensors[f"mpgd/{variant}/x_prev"], rtol=1e-9, atol=1e-9)
