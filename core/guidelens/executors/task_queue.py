"""Which task is computed next, and how often one is tried whose worker is lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from guidelens.runs.execute import Failure, Outcome, Task

ATTEMPTS = 3
"""Workers that may be lost over one task before its cells count as failed."""


def predicted_cost(task: Task) -> float:
    """Return what a task costs in proportion to others: pictures x steps x numbers in a picture."""
    return float(len(task.cells) * task.settings.steps * math.prod(task.settings.image_shape))


def longest_first(tasks: Sequence[Task]) -> list[Task]:
    """Return tasks by falling predicted cost (Graham, 1969: the last worker then ends soon after the first).

    Those of equal cost stay in their order, in which neighbours share their models.
    """
    return sorted(tasks, key=predicted_cost, reverse=True)


class TaskQueue:
    """Tasks that are to be handed out: new ones as late as possible, lost ones before them.

    :param tasks: drawn from only when a worker is free.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._new: Iterator[Task] = iter(tasks)
        self._again: list[Task] = []
        self._lost: dict[str, int] = {}

    def take(self) -> Task | None:
        """Return the next task, or None where there is none at present."""
        return self._again.pop(0) if self._again else next(self._new, None)

    def lost(self, task: Task, reason: str) -> Outcome | None:
        """Take back a task whose worker was lost; return its outcome where it was the last attempt."""
        name = next(iter(task.cells))
        self._lost[name] = self._lost.get(name, 0) + 1
        if self._lost[name] < ATTEMPTS:
            self._again.append(task)
            return None
        failure = Failure(f"{ATTEMPTS} workers were lost over it, the last so: {reason}", "WorkerLost")
        return Outcome(failures=dict.fromkeys(task.wanted, failure))
