"""Generators of latents whose decoders are exact: an orthogonal map, and a small convolutional network."""

from __future__ import annotations

import torch
from guidelens.diffusion import alphas_cumprod_of, beta_schedule
from torch import Tensor, nn
from toys import SHAPE, TinyNet

LATENTS = (12, 2, 2)
"""As many numbers as a picture of :data:`toys.SHAPE` has."""


def orthogonal(size: int = 48) -> Tensor:
    """Return an orthogonal matrix (size, size) float64."""
    random = torch.Generator().manual_seed(3)
    return torch.linalg.qr(torch.randn(size, size, generator=random, dtype=torch.float64))[0]


def mapped(matrix: Tensor, images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ``matrix`` times each image, as images of ``shape``."""
    # Not a matrix product: autocast would round it to bfloat16.
    return (images.flatten(1)[:, None] * matrix.to(images)).sum(dim=2).reshape(-1, *shape)


class Rotated:
    """A generator of pixels in other coordinates z = A^T x: latents, of which x = A z is the picture."""

    image_shape = LATENTS
    picture_shape = SHAPE
    fingerprint = "rotated"

    def __init__(self, pixels) -> None:
        self.pixels, self.matrix = pixels, orthogonal()
        self.alphas_cumprod = pixels.alphas_cumprod
        self.prediction, self.learned_variance = pixels.prediction, False
        self.decoded: list[int] = []

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        return self.encode(self.pixels(mapped(self.matrix, x_t, SHAPE), timesteps))

    def encode(self, pictures: Tensor) -> Tensor:
        return mapped(self.matrix.T, pictures, LATENTS)

    def decode(self, latents: Tensor) -> Tensor:
        self.decoded.append(len(latents))
        return mapped(self.matrix, latents, SHAPE)


class ConvLatents(nn.Module):
    """A small nonlinear denoiser of four channels, and a convolutional decoder that doubles the size."""

    fingerprint = "conv latents"
    image_shape = (4, 4, 4)
    picture_shape = (3, 8, 8)

    def __init__(self, *, prediction="v", learned_variance=False) -> None:
        super().__init__()
        self.prediction, self.learned_variance = prediction, learned_variance
        self.alphas_cumprod = alphas_cumprod_of(beta_schedule("cosine"))
        self.recomputes: list[bool] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = TinyNet(prediction=prediction)
            self.net.first = nn.Conv2d(5, 8, 3, padding=1)
            self.net.second = nn.Conv2d(8, 8 if learned_variance else 4, 3, padding=1)
            self.decoder = nn.Sequential(nn.ConvTranspose2d(4, 8, 2, stride=2), nn.Tanh(), nn.Conv2d(8, 3, 1))

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        return self.net(x_t, timesteps)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)

    def checkpointing(self, enabled: bool) -> None:
        self.recomputes.append(enabled)
