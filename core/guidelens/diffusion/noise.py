"""The noise of sampling: one seeded stream per sample, so that no picture depends on its neighbours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..errors import UsageError
from ..seeds import checked_seed

if TYPE_CHECKING:  # shapes, for readers and tests; nothing is checked at run time
    from jaxtyping import Float, Float32


class NoiseSource(Protocol):
    """The noise for sampling: first x_T, then one tensor for each step that adds noise, from the noisiest step on."""

    def next(self) -> Float[Tensor, "B C H W"]:
        """Return the next (B, C, H, W) of standard normal noise."""
        ...


class NoiseStream:
    """Independent standard normal noise for each sample, from its own seeded CPU generator. A sample's noise depends
    only on its seed and shape, not on batch, device or guidance. So pictures with the same seed under two schedules
    share x_T and the noise of every step.

    :param seeds: one per sample, each 0..2**63 - 1; equal seeds give equal noise.
    :param shape: (C, H, W) of a sample.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int]) -> None:
        self._shape = tuple(shape)
        self._generators = [torch.Generator("cpu").manual_seed(_folded(checked_seed(seed))) for seed in seeds]

    def next(self) -> Float32[Tensor, "B C H W"]:
        """Draw (B, C, H, W) float32 on the CPU."""
        draws = torch.empty(len(self._generators), *self._shape, dtype=torch.float32)
        for draw, generator in zip(draws, self._generators, strict=True):
            draw.normal_(generator=generator)
        return draws


class ReplayedNoise:
    """Noise from given tensors: x_T, then the noise of each step. Use it to reproduce a recorded run, or to compare
    samplers on the same noise.
    """

    def __init__(self, draws: Iterable[Tensor]) -> None:
        self._draws: Iterator[Tensor] = iter(draws)

    def next(self) -> Float[Tensor, "B C H W"]:
        """Return the next given tensor.

        :raises UsageError: if no tensor is left.
        """
        for draw in self._draws:
            return draw
        raise UsageError("the replayed noise has fewer tensors than the sampler draws")


class KeyedNoise:
    """Random numbers for the other purposes of a step. Each key (purpose, step, repetition) has its own generator, and
    its numbers depend only on the sample's seed and the key. They do not change the sampling noise or the numbers of
    other options. So runs that differ in one option share all other random numbers.

    :param seeds: one per sample, each 0..2**63 - 1.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds = [checked_seed(seed) for seed in seeds]

    def normal(
        self, shape: Sequence[int], *key: str | int, rows: Sequence[int] | None = None
    ) -> Float32[Tensor, "B *shape"]:
        """Draw standard normal (B, *shape) float32 on the CPU for the samples ``rows`` (None: all)."""
        return self._draw(shape, key, rows, lambda draw, generator: draw.normal_(generator=generator))

    def uniform(
        self, shape: Sequence[int], *key: str | int, rows: Sequence[int] | None = None
    ) -> Float32[Tensor, "B *shape"]:
        """Draw uniform numbers in [-1, 1), (B, *shape) float32 on the CPU, for the samples ``rows`` (None: all)."""
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
    """Return a seed of 32 bits for PyTorch's CPU generator: the seed itself, or a hash of a larger one."""
    return seed if seed < 2**32 else _derived_seed(seed, ("large",)) % 2**32


def _derived_seed(seed: int, key: tuple[str | int, ...]) -> int:
    digest = hashlib.sha256("/".join(map(str, (seed, *key))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
