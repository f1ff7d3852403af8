"""Check that a batch that exceeds the memory is computed in halves, with the same pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor

from guidelens.bench.subjects import EveryObjective
from guidelens.bench.timing import peak_memory
from guidelens.contracts import Generator
from guidelens.engine import Engine, Sample, Step
from guidelens.sampling import Sampling

from .context import CheckContext
from .record import CaseResult

_BATCH = 4
_TOLERANCE = 0.05
"""Largest difference. Rounding in bfloat16 differs between a batch and its halves."""


class _Limited:
    """A generator that accepts a limited number of pictures at once, for devices whose memory cannot be capped."""

    def __init__(self, generator: Generator, limit: int) -> None:
        self._generator, self._limit = generator, limit

    def to(self, *args: Any) -> _Limited:
        """Stay on the CPU, in float32."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        if len(x_t) > self._limit:
            raise MemoryError(f"more than {self._limit} pictures")
        return self._generator(x_t, timesteps)


def halving(context: CheckContext) -> CaseResult:
    """Compare a step with enough memory with a step under a cap that is too small for the batch."""
    device = torch.device(context.settings.device)
    engine, first = _first_step(context, context.generator)
    with closing(engine.stream(_samples(context))) as stream:
        peak = peak_memory(device, lambda: next(stream))
    if device.type == "cuda":
        with _capped(device, peak.before + int(0.7 * (peak.peak - peak.before))):
            engine, second = _first_step(context, context.generator)
    else:
        limited: Any = _Limited(context.generator, _BATCH // 2)
        engine, second = _first_step(context, limited)
    difference = ((first.sample - second.sample).norm() / first.sample.norm()).item()
    values = {"batch": _BATCH, "went_on_with": engine.piece_limit, "difference": difference}
    if engine.piece_limit is None or not difference <= _TOLERANCE:
        return CaseResult("failed", values, "the batch was not halved, or gave other pictures")
    return CaseResult("ok", values)


def _first_step(context: CheckContext, generator: Generator) -> tuple[Engine, Step]:
    engine = Engine(generator, context.guidance, Sampling(dtype="bfloat16"), device=context.settings.device)
    with closing(engine.stream(_samples(context))) as stream:
        return engine, next(stream)


def _samples(context: CheckContext) -> list[Sample]:
    schedule = EveryObjective(context.guidance.objectives)
    return [Sample(context.settings.prompt, schedule, seed) for seed in range(_BATCH)]


@contextmanager
def _capped(device: torch.device, limit: int) -> Iterator[None]:
    """Limit this process to ``limit`` bytes of the device's memory."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
