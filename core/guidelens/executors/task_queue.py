"""The order of tasks, and retries of tasks whose worker was lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from guidelens.runs.execute import Failure, Outcome, Task

ATTEMPTS = 3
"""The number of workers that one task may lose before its cells count as failed."""


def predicted_cost(task: Task) -> float:
    """Return the relative cost of a task: pictures x steps x numbers per picture."""
    return float(len(task.cells) * task.settings.steps * math.prod(task.settings.image_shape))


def longest_first(tasks: Sequence[Task]) -> list[Task]:
    """Return tasks by decreasing predicted cost. Then the last worker ends soon after the first (Graham, 1969). Tasks
    of equal cost keep their order, because neighbours share models.
    """
    return sorted(tasks, key=predicted_cost, reverse=True)


class TaskQueue:
    """Tasks to compute. Lost tasks come first; new ones are taken as late as possible.

    :param tasks: drawn from only when a worker is free.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._new: Iterator[Task] = iter(tasks)
        self._again: list[Task] = []
        self._lost: dict[str, int] = {}

    def take(self) -> Task | None:
        """Return the next task; None if there is none at present."""
        return self._again.pop(0) if self._again else next(self._new, None)

    def lost(self, task: Task, reason: str) -> Outcome | None:
        """Queue a lost task again. After its last attempt, return its outcome instead."""
        name = next(iter(task.cells))
        self._lost[name] = self._lost.get(name, 0) + 1
        if self._lost[name] < ATTEMPTS:
            self._again.append(task)
            return None
        failure = Failure(f"{ATTEMPTS} workers were lost over it, the last so: {reason}", "WorkerLost")
        return Outcome(failures=dict.fromkeys(task.wanted, failure))
