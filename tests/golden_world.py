"""The toy network and the residual of the golden trajectories, from the formulas of tests/golden/README.md."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from guidelens.contracts import TextBatch
from guidelens.diffusion import ReplayedNoise
from guidelens.engine import Engine, Sample
from guidelens.sampling import Sampling
from safetensors import safe_open
from safetensors.torch import load_file
from toys import Constant

GOLDEN = Path(__file__).parent / "golden"
SEEDS = (7, 8)
SHAPE = (3, 6, 6)
STEPS = 8


def read(name):
    """Return the tensors of a golden file, and its metadata with the JSON parsed where it is JSON."""
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        metadata = {key: _parsed(value) for key, value in file.metadata().items()}
    return load_file(path), metadata


def _parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


class GoldenNetwork:
    """eps, with a learned variance or without."""

    fingerprint = "golden"
    image_shape = SHAPE
    prediction = "epsilon"

    def __init__(self, tensors, *, learned_variance):
        self.learned_variance = learned_variance
        self.alphas_cumprod = tensors["shared/alphas_cumprod"]
        self.W1, self.W2, self.W3 = (tensors[f"net/{name}"] for name in ("W1", "W2", "W3"))

    def __call__(self, x_t, timesteps):
        abar = self.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1)
        gain = (1 - abar).sqrt() / (0.6 * abar + 1 - abar)
        hidden = torch.tanh(F.conv2d(x_t, self.W1, padding=1))
        eps = gain * (x_t - 0.1 * abar.sqrt()) + 1.5 * abar.sqrt() * F.conv2d(hidden, self.W2, padding=1)
        if not self.learned_variance:
            return eps
        return torch.cat([eps, torch.tanh(F.conv2d(x_t, self.W3, padding=1))], dim=1)


class Residual:
    """``norm``: |r|, ``square``: |r|^2, ``half``: |r|^2 / 2, of r = y - f(x0); the prompt is the row of y."""

    objectives = frozenset({"norm", "square", "half"})
    fingerprint = "residual"

    def __init__(self, tensors):
        self.A, self.y = tensors["objective/A"], tensors["objective/y"]

    def encode_text(self, prompts):
        return TextBatch(tuple(prompts), {"y": self.y[[int(prompt) for prompt in prompts]]})

    def losses(self, images, text, objectives):
        z = images.flatten(1) @ self.A.T
        square = (text.tensors["y"] - z - 0.5 * torch.tanh(3 * z)).square().sum(dim=1)
        every = {"norm": square.sqrt(), "square": square, "half": square / 2}
        return {name: every[name] for name in objectives}


def trajectory(tensors, preset, objective, noises, *, learned_variance, eta=None, **overrides):
    """Return x_{t-1} and the unguided x0 of every step, each (8, 2, 3, 6, 6), as a preset draws them."""
    if eta is not None:
        overrides["eta"] = eta
    engine = Engine(
        GoldenNetwork(tensors, learned_variance=learned_variance),
        Residual(tensors),
        Sampling.preset(preset, **{"steps": "ddim8", "dtype": "float64", **overrides}),
        device="cpu",
    )
    samples = [Sample(str(row), Constant(**{objective: 1.0}), seed) for row, seed in enumerate(SEEDS)]
    noise = ReplayedNoise([tensors["shared/x_T"], *noises])
    steps = list(engine.stream(samples, noise=noise))
    assert [step.timestep for step in steps] == tensors["shared/timesteps"].long().tolist()
    return torch.stack([step.sample for step in steps]), torch.stack([step.pred_x0 for step in steps])
