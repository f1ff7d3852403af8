"""The noise of sampling: one seeded stream per sample, so that no picture depends on its neighbours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..errors import UsageError
from ..seeds import checked_seed


class NoiseSource(Protocol):
    """What sampling draws from: first x_T, then one tensor for every step that adds noise, noisiest first."""

    def next(self) -> Tensor:
        """Return the next (B, C, H, W) of standard normal noise."""
        ...


class NoiseStream:
    """Independent standard normal noise per sample, each from its own seeded CPU generator.

    A sample's draws depend on its seed and shape alone: neither on the batch, nor on the device, nor on what
    steers the sampling. Two schedules with one seed thus share x_T and the noise of every step.

    :param seeds: one per sample, each 0..2**63 - 1; equal seeds give equal noise.
    :param shape: (C, H, W) of a sample.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int]) -> None:
        self._shape = tuple(shape)
        self._generators = [torch.Generator("cpu").manual_seed(_folded(checked_seed(seed))) for seed in seeds]

    def next(self) -> Tensor:
        """Draw (B, C, H, W) float32 on the CPU."""
        draws = torch.empty(len(self._generators), *self._shape, dtype=torch.float32)
        for draw, generator in zip(draws, self._generators, strict=True):
            draw.normal_(generator=generator)
        return draws


class ReplayedNoise:
    """Noise given as tensors: x_T, then that of each step.

    It reproduces a run recorded elsewhere, or compares samplers on the very same draws.
    """

    def __init__(self, draws: Iterable[Tensor]) -> None:
        self._draws: Iterator[Tensor] = iter(draws)

    def next(self) -> Tensor:
        """Return the next given tensor.

        :raises UsageError: when the tensors have run out.
        """
        for draw in self._draws:
            return draw
        raise UsageError("the replayed noise has fewer tensors than the sampler draws")


class KeyedNoise:
    """Random numbers for whatever else a step needs, each purpose with a generator of its own.

    What is drawn for one key (a purpose, a step, a repetition) depends on the sample's seed and that key alone,
    so it never shifts the sampling noise or what another option draws: runs that differ in an option stay
    paired in everything else.

    :param seeds: one per sample, each 0..2**63 - 1.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds = [checked_seed(seed) for seed in seeds]

    def normal(self, shape: Sequence[int], *key: str | int, rows: Sequence[int] | None = None) -> Tensor:
        """Draw standard normal (B, *shape) float32 on the CPU for the samples ``rows`` (None: all)."""
        return self._draw(shape, key, rows, lambda draw, generator: draw.normal_(generator=generator))

    def uniform(self, shape: Sequence[int], *key: str | int, rows: Sequence[int] | None = None) -> Tensor:
        """Draw uniformly from [-1, 1), likewise."""
        return self._draw(shape, key, rows, lambda draw, generator: draw.uniform_(-1, 1, generator=generator))

    def _draw(
        self,
        shape: Sequence[int],
        key: tuple[str | int, ...],
        rows: Sequence[int] | None,
        fill: Callable[[Tensor, torch.Generator], object],
    ) -> Tensor:
        seeds = self._seeds if rows is None else [self._seeds[row] for row in rows]
        draws = torch.empty(len(seeds), *shape, dtype=torch.float32)
        for draw, seed in zip(draws, seeds, strict=True):
            fill(draw, torch.Generator("cpu").manual_seed(_derived_seed(seed, key)))
        return draws


def _folded(seed: int) -> int:
    """Return a seed of 32 bits, all that PyTorch's CPU generator takes: itself, or a hash of all of a larger one."""
    return seed if seed < 2**32 else _derived_seed(seed, ("large",)) % 2**32


def _derived_seed(seed: int, key: tuple[str | int, ...]) -> int:
    digest = hashlib.sha256("/".join(map(str, (seed, *key))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
