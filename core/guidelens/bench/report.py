"""The results of a benchmark, as JSON values and as rows of a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .timing import Peak, Spread

FORMAT = "guidelens-bench-1"


@dataclass(frozen=True)
class AgainstReport:
    """The measurements of an alternative.

    :param step: times of its guided steps.
    :param first: seconds of the first step, which compiles or records what the others use.
    :param speedup: its time divided by that of the engine's guided step, median over the rounds.
    :param difference: the largest difference between its output and the generator's, relative to the largest
        value of that.
    """

    summary: str
    step: Spread
    first: float
    speedup: float
    difference: float
    memory: Peak

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "summary": self.summary,
            "step": self.step.to_dict(),
            "first": self.first,
            "speedup": self.speedup,
            "difference": self.difference,
            "memory": asdict(self.memory),
        }


@dataclass(frozen=True)
class BatchReport:
    """The measurements for one batch size. Times are seconds per step of the whole batch.

    :param guided: the engine's guided step.
    :param unguided: the engine's step without guidance.
    :param parts: the bare networks of a guided step by part, in order.
    :param forward: the bare generator without gradients, as in an unguided step.
    :param hollow: the engine's guided step with networks that do almost nothing.
    :param memory: peaks of a guided and an unguided step.
    :param against: by name of the alternative.
    """

    batch: int
    guided: Spread
    unguided: Spread
    parts: Mapping[str, Spread]
    forward: Spread
    hollow: Spread
    memory: Mapping[str, Peak]
    against: Mapping[str, AgainstReport] = field(default_factory=dict)

    @property
    def bare(self) -> Spread:
        """The networks of a guided step, all parts together."""
        return Spread(tuple(map(sum, zip(*(part.values for part in self.parts.values()), strict=True))))

    @property
    def overhead(self) -> float:
        """The time that the engine adds to the bare networks of a guided step, relative to these."""
        return paired_median(self.guided, self.bare) - 1

    @property
    def unguided_overhead(self) -> float:
        """The same for a step without guidance."""
        return paired_median(self.unguided, self.forward) - 1

    @property
    def hollow_share(self) -> float:
        """The time of the engine alone, relative to the bare networks: :attr:`overhead` without their noise."""
        return self.hollow.median / self.bare.median

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "batch": self.batch,
            "guided": self.guided.to_dict(),
            "unguided": self.unguided.to_dict(),
            "parts": {name: part.to_dict() for name, part in self.parts.items()},
            "bare": self.bare.to_dict(),
            "forward": self.forward.to_dict(),
            "hollow": self.hollow.to_dict(),
            "overhead": self.overhead,
            "unguided_overhead": self.unguided_overhead,
            "hollow_share": self.hollow_share,
            "memory": {name: asdict(peak) for name, peak in self.memory.items()},
            "against": {name: report.to_dict() for name, report in self.against.items()},
        }


@dataclass(frozen=True)
class BenchReport:
    """A whole benchmark.

    :param machine: see :func:`~guidelens.bench.machine.describe_machine`.
    :param rates: see :func:`~guidelens.bench.machine.measured_rates`; FLOP per second.
    :param flop: floating-point operations of one evaluation per picture; None if they cannot be counted.
    :param settings: the settings of the benchmark.
    """

    generator: Mapping[str, Any]
    guidance: Mapping[str, Any]
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    rates: Mapping[str, float]
    flop: int | None
    batches: tuple[BatchReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values that ``guidelens bench --json`` writes."""
        return {
            "format": FORMAT,
            "generator": dict(self.generator),
            "guidance": dict(self.guidance),
            "settings": dict(self.settings),
            "machine": dict(self.machine),
            "rates": dict(self.rates),
            "flop": self.flop,
            "batches": [batch.to_dict() for batch in self.batches],
        }


def paired_median(first: Spread, second: Spread) -> float:
    """Return the median over the rounds of first / second, each pair measured in the same round."""
    return statistics.median(a / b for a, b in zip(first.values, second.values, strict=True))
