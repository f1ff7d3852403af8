"""Conformance checks for schedules: finite and reproducible weights at every progress."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field

from guidelens.contracts import Schedule
from guidelens.guarding import weights_at

from .checklist import CheckList, Failed, Numbers, is_number
from .report import ConformanceReport

GRID = 100
"""Schedules are checked at progress 0, 1 / GRID, ..., 1 and at GRID random values."""


@dataclass
class _Subject:
    schedule: Schedule
    progress: list[float] = field(init=False)

    def __post_init__(self) -> None:
        rng = random.Random(0)
        self.progress = [k / GRID for k in range(GRID + 1)] + [rng.random() for _ in range(GRID)]


CHECKS: CheckList[_Subject] = CheckList()


@CHECKS.add("weights")
def _weights(subject: _Subject) -> Numbers:
    """A mapping of objective names to finite numbers at every progress in [0, 1]."""
    for progress in subject.progress:
        for name, weight in weights_at(subject.schedule, progress).items():
            if not name.strip():
                raise Failed(f"at progress {progress:g} an objective is called {name!r}; write a name")
            if not is_number(weight):
                raise Failed(
                    f"at progress {progress:g} the weight of {name!r} is {weight!r}, a "
                    f"{type(weight).__name__}, not a finite int or float"
                )
    return {"points": len(subject.progress)}


@CHECKS.add("pure", needs=["weights"])
def _pure(subject: _Subject) -> Numbers:
    """The same progress gives the same weights, in whatever order it is asked."""
    first = [dict(weights_at(subject.schedule, progress)) for progress in subject.progress]
    order = list(range(len(first)))
    random.Random(1).shuffle(order)
    for index in order:
        progress = subject.progress[index]
        again = dict(weights_at(subject.schedule, progress))
        if again != first[index]:
            raise Failed(f"at progress {progress:g} it said {first[index]}, and later {again}")
    return {"points": len(first)}


@CHECKS.add("guides", needs=["weights"])
def _guides(subject: _Subject) -> Numbers:
    """Some weight is not 0 at some progress."""
    tables = [weights_at(subject.schedule, progress) for progress in subject.progress]
    largest = max((abs(weight) for table in tables for weight in table.values()), default=0.0)
    if largest == 0:
        raise Failed("every weight is 0 at every progress, so there is no guidance")
    return {"objectives": len({name for table in tables for name in table}), "largest weight": largest}


def examine_schedule(schedule: Schedule, *, skip: Collection[str] = ()) -> ConformanceReport:
    """Check a schedule; see :func:`guidelens.testing.check_schedule`."""
    return ConformanceReport("schedule", repr(schedule), CHECKS.run(_Subject(schedule), skip))
