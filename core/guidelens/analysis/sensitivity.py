"""Measure how much a tiny change of the noise has grown after each step. This shows the effect of rounding errors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..diffusion.noise import KeyedNoise, NoiseStream
from ..engine import Engine
from ..samples import Sample

SIZE = 1e-6
"""The root mean square of the perturbation of x_T, about ten times the rounding error of float32."""


class _PerturbedPairs:
    """Noise for a batch that is drawn twice. x_T of the second half is moved by ``size`` in a random direction, which
    is drawn from each sample's seed.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], size: float) -> None:
        self._stream = NoiseStream(seeds, shape)
        direction = KeyedNoise(seeds).normal(shape, "perturbation")
        rms = direction.square().flatten(1).mean(dim=1).sqrt().reshape(-1, 1, 1, 1)
        self._offset: Tensor | None = size * direction / rms

    def next(self) -> Tensor:
        draws = self._stream.next()
        moved = draws if self._offset is None else draws.double() + self._offset
        self._offset = None
        return torch.cat([draws.to(moved.dtype), moved])


def perturbation_growth(engine: Engine, samples: Sequence[Sample], size: float = SIZE) -> Tensor:
    """Draw every sample twice in one batch, from x_T and from x_T moved by ``size``. Compare both after every step.

    Both halves share all later noise. The result is rms(x_{t-1} - x'_{t-1}) / size, (steps, samples) float64: 1 means
    that the difference has kept its size, 1e5 that it has grown from 1e-6 to 0.1.

    :param size: root mean square of the perturbation over the pixels of x_T.
    """
    pairs = _PerturbedPairs([sample.seed for sample in samples], engine.generator.image_shape, size)
    rows = []
    for step in engine.stream([*samples, *samples], noise=pairs):
        first, second = step.sample.double().chunk(2)
        rows.append((first - second).square().flatten(1).mean(dim=1).sqrt().cpu() / size)
    return torch.stack(rows)
