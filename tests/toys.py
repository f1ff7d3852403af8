"""Small exact components for tests: a Gaussian generator, quadratic objectives, tiny networks."""

from __future__ import annotations

from dataclasses import replace

import torch
from guidelens.contracts import Prediction, TextBatch
from guidelens.diffusion import alphas_cumprod_of, beta_schedule
from guidelens.engine import Engine
from guidelens.sampling import Sampling
from torch import Tensor, nn

EVERYTHING = Sampling(
    scale=20.0,
    normalize="noise",
    clip_norm=5.0,
    range_scale=5.0,
    augment="crop+affine+noise",
    augmentations=2,
    smoothing=2,
    recurrence=2,
    into="sample",
    see="blend",
)
"""Every option at once."""

SHAPE = (3, 4, 4)


class GaussianGenerator:
    """The optimal network for data ~ N(mu, sigma^2 I): every prediction is linear in x_t and known exactly.

    Written from E[x0 | x_t] and the definitions of eps and v, apart from the package's formulas. A learned
    variance is a constant interpolation. Keeps the timesteps that it was told.
    """

    fingerprint = "gaussian"

    def __init__(
        self,
        mu: float = 0.2,
        sigma: float = 0.5,
        *,
        prediction: Prediction = "epsilon",
        interpolation: float | None = None,
        schedule: str = "linear",
        shape: tuple[int, int, int] = SHAPE,
    ) -> None:
        self.mu, self.sigma, self.interpolation = mu, sigma, interpolation
        self.image_shape = shape
        self.alphas_cumprod = alphas_cumprod_of(beta_schedule(schedule, 1000))
        self.prediction: Prediction = prediction
        self.learned_variance = interpolation is not None
        self.told: list[list[int]] = []
        self.graphs: list[bool] = []

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        self.told.append(timesteps.tolist())
        self.graphs.append(x_t.requires_grad)
        abar = self.alphas_cumprod.to(x_t.device)[timesteps].to(x_t.dtype).reshape(-1, 1, 1, 1)
        variance = abar * self.sigma**2 + 1 - abar
        x0 = self.mu + abar.sqrt() * self.sigma**2 / variance * (x_t - abar.sqrt() * self.mu)
        eps = (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()
        v = abar.sqrt() * eps - (1 - abar).sqrt() * x0
        output = {"x0": x0, "epsilon": eps, "v": v}[self.prediction]
        if self.interpolation is None:
            return output
        return torch.cat([output, torch.full_like(output, self.interpolation)], dim=1)


class Quadratic:
    """Objectives that pull every pixel to a number: the prompt is that number.

    ``near``: sum (x - y)^2 / 2. ``away``: its negative. ``steep``: 3 times ``near`` around y + 1.
    """

    objectives = frozenset({"near", "away", "steep"})
    fingerprint = "quadratic"

    def __init__(self) -> None:
        self.encoded: list[tuple[str, ...]] = []
        self.asked: list[tuple[tuple[str, ...], int]] = []

    def encode_text(self, prompts):
        self.encoded.append(tuple(prompts))
        return TextBatch(
            tuple(prompts), {"y": torch.tensor([float(p) for p in prompts], dtype=torch.float64)}
        )

    def losses(self, images, text, objectives):
        self.asked.append((tuple(objectives), len(images)))
        y = text.tensors["y"].to(images).reshape(-1, 1, 1, 1)
        near = (images - y).square().sum(dim=(1, 2, 3)) / 2
        steep = 1.5 * (images - y - 1).square().sum(dim=(1, 2, 3))
        everything = {"near": near, "away": -near, "steep": steep}
        return {name: everything[name] for name in objectives}


class Constant:
    """A schedule of constant weights."""

    def __init__(self, **weights: float) -> None:
        self._weights = weights

    def weights(self, progress):
        return self._weights

    def __repr__(self):
        return f"Constant({self._weights})"


class Shift:
    """From one objective to another, linearly."""

    def __init__(self, start: str, end: str) -> None:
        self._start, self._end = start, end

    def weights(self, progress):
        return {self._start: 1 - progress, self._end: progress}


class TinyNet(nn.Module):
    """A small nonlinear denoiser: two convolutions, told the time."""

    fingerprint = "tiny"
    image_shape = SHAPE

    def __init__(self, *, prediction: Prediction = "v", learned_variance: bool = False) -> None:
        super().__init__()
        self.prediction: Prediction = prediction
        self.learned_variance = learned_variance
        self.alphas_cumprod = alphas_cumprod_of(beta_schedule("cosine"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(4, 8, 3, padding=1)
            self.dropout = nn.Dropout(0.5)
            self.second = nn.Conv2d(8, 6 if learned_variance else 3, 3, padding=1)

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        time = (timesteps / 1000).to(x_t.dtype).reshape(-1, 1, 1, 1).expand(-1, 1, *x_t.shape[2:])
        return self.second(self.dropout(torch.tanh(self.first(torch.cat([x_t, time], dim=1)))))


class TinyVision(nn.Module):
    """Two nonlinear objectives on shared features of a small network; text is a seeded vector per prompt."""

    objectives = frozenset({"dot", "square"})
    fingerprint = "tiny-vision"

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.features = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh())

    def encode_text(self, prompts):
        rows = [torch.randn(16, generator=torch.Generator().manual_seed(sum(map(ord, p)))) for p in prompts]
        weight = self.features[1].weight
        return TextBatch(tuple(prompts), {"u": torch.stack(rows).to(weight)})

    def losses(self, images, text, objectives):
        f, u = self.features(images), text.tensors["u"].to(images.device)
        everything = {"dot": -(f * u).sum(dim=1), "square": (f - u).square().sum(dim=1)}
        return {name: everything[name] for name in objectives}


def make_engine(
    generator,
    model=None,
    sampling=None,
    *,
    sampler=None,
    device="cpu",
    batch_size=16,
    max_nonfinite=None,
    **options,
):
    """An engine on the CPU; ``options`` replace those of ``sampling``, and the sampler is a name or an object."""
    if isinstance(sampler, str):
        options["sampler"], sampler = sampler, None
    chosen = replace(sampling or Sampling(), **options)
    return Engine(
        generator,
        model,
        chosen,
        sampler=sampler,
        device=device,
        batch_size=batch_size,
        max_nonfinite=max_nonfinite,
    )
