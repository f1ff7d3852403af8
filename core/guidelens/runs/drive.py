"""Carry out a plan: pass tasks to an executor, write the outcomes to the store, report progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Prompt
from guidelens.runs.execute import CellGroup, Executor, Outcome, Task, make_task
from guidelens.runs.integrity import recorded_hash
from guidelens.runs.logs import RunLog, RunLogger
from guidelens.runs.notes import Note
from guidelens.runs.record import prompt_of, rescored
from guidelens.runs.scoring import NamedMetric, score
from guidelens.runs.store import RunStore
from guidelens.runs.telemetry import batch_file
from guidelens.words import plural

if TYPE_CHECKING:
    from guidelens.runs.config import Cell
    from guidelens.runs.plan import Plan


@dataclass(frozen=True)
class Progress:
    """The progress of a run, passed to ``on_progress`` after every sampling step and every batch."""

    total: int
    """Number of requested cells."""
    reused: int
    """Number of cells that were on disk before this call."""
    done: float
    """Number of cells on disk, plus the cells of running batches in proportion to their finished steps."""
    means: Mapping[str, tuple[float, int]]
    """Schedule -> (mean, n) of the first metric column so far."""
    column: str
    """The name of that column; empty without metrics."""
    failed: int = 0
    """Number of cells that could not be computed."""
    share: float = 0.0
    """Finished share of this call's work, 0 to 1; each cell weighs as much as it has steps."""


@dataclass(frozen=True)
class Callbacks:
    """Functions of the caller that a run calls; None: no call.

    :param on_progress: called with the progress after every step and every batch.
    :param on_note: called once with each note of the run, before sampling.
    :param should_stop: called before every batch; True ends the run after the batches in flight.
    :param loggers: objects that receive every picture with its curves, see :mod:`guidelens.loggers`.
    """

    on_progress: Callable[[Progress], None] | None = None
    on_note: Callable[[Note], None] | None = None
    should_stop: Callable[[], bool] | None = None
    loggers: Sequence[RunLogger] = ()

    def report(self, notes: Iterable[Note]) -> None:
        """Pass each note to ``on_note``."""
        if self.on_note is not None:
            for note in notes:
                self.on_note(note)


class Driver:
    """One run on one open store. Only the driver writes to the store.

    :param groups: all requested cells.
    :param metrics: the metrics that score them; progress reports the means of their first column.
    """

    def __init__(
        self,
        store: RunStore,
        groups: Sequence[CellGroup],
        metrics: Sequence[NamedMetric],
        callbacks: Callbacks,
    ) -> None:
        self.store, self.metrics = store, metrics
        self.column = next((column for metric in metrics for column in metric.columns), "")
        self.cells: dict[str, Cell] = {key: cell for group in groups for key, cell in group.cells.items()}
        self.reused = sum(key in store.rows for key in self.cells)
        self.computed = 0
        self.stopped = False
        self._callbacks = callbacks
        self._log = RunLog(store, groups, callbacks.loggers)
        self._home = {key: group for group in groups for key in group.cells}
        self._running: dict[str, tuple[int, float, float]] = {}
        self._work_done = self._work = 0.0
        self._means: dict[str, tuple[float, int]] = {}
        self._update_means()

    def run(
        self, plan: Plan, executor: Executor, *, batch_size: int, retry_metrics: bool = True, **extra: Any
    ) -> None:
        """Compute the batches of a plan, then score pictures on disk that lack a score, and sort the rows.

        :param batch_size: number of stored pictures that are scored at once.
        :param retry_metrics: also score stored pictures again by metrics that failed on them.
        :param extra: further fields of :class:`~guidelens.runs.execute.Task`.
        """
        with self._log:
            self._compute_and_score(plan, executor, batch_size, retry_metrics, extra)
        sort_rows(self.store, plan.batches)

    def _compute_and_score(
        self, plan: Plan, executor: Executor, batch_size: int, retry_metrics: bool, extra: Mapping[str, Any]
    ) -> None:
        self._compute(plan.todo, executor, extra)
        if not self.stopped:
            self._callbacks.report(rescoring_notes(self.store.rows.values(), self.metrics))
            fresh = [key for batch in plan.todo for key in batch]
            self.stopped = not score_again(
                self.store,
                {key: cell.prompt for key, cell in self.cells.items()},
                self.metrics,
                leave=fresh if retry_metrics else self.cells,
                batch_size=batch_size,
                should_stop=self._callbacks.should_stop,
            )

    def _compute(self, todo: Iterable[Sequence[str]], executor: Executor, extra: Mapping[str, Any]) -> None:
        """Compute batches of keys and write those of their cells that are not on disk yet.

        A batch replaces its telemetry. So cells on disk whose row names this file are written again if it has
        changed, as it does with other versions.
        """
        extra = {"metrics": tuple(metric.name for metric in self.metrics), **extra}
        tasks = [make_task(self._home[batch[0]], batch, self._wanted(batch), **extra) for batch in todo]
        self._work = math.fsum(_work(task) for task in tasks)
        ordered = getattr(executor, "order", list)(tasks)
        with closing(executor.outcomes(self._feed(ordered), self._progress)) as outcomes:
            for task, outcome in outcomes:
                self._commit(task, outcome)

    def _feed(self, tasks: Sequence[Task]) -> Iterator[Task]:
        for task in tasks:
            if self._callbacks.should_stop is not None and self._callbacks.should_stop():
                self.stopped = True
                return
            self._progress(task, 0.0)
            yield task

    def _commit(self, task: Task, outcome: Outcome) -> None:
        kept = {key for key, row in outcome.rows.items() if self._agrees(key, row)}
        new = {key: row for key, row in outcome.rows.items() if key not in kept}
        pictures = {key: picture for key, picture in outcome.pictures.items() if key in new}
        self.computed += len(new.keys() - self.store.rows.keys())
        self.store.add(pictures, list(new.values()), outcome.telemetry)
        self._log.add(new)
        if outcome.failures:
            failed = {
                key: self._failure(key, task, outcome)
                for key in outcome.failures
                if key not in self.store.rows
            }
            self.store.replace_failures({**self.store.failures, **failed}.values())
        self._running.pop(_name(task), None)
        self._work_done += _work(task)
        self._update_means()
        self._report()

    def _wanted(self, batch: Sequence[str]) -> list[str]:
        """Return the cells of a batch that are not there, and those whose telemetry the batch replaces."""
        rows, file = self.store.rows, batch_file(batch)
        return [key for key in batch if key not in rows or rows[key]["telemetry"] == file]

    def _agrees(self, key: str, row: Mapping[str, Any]) -> bool:
        """Whether the row of a cell that is there names the same telemetry, byte for byte, as a new ``row``."""
        known = self.store.rows.get(key)
        same = recorded_hash(row, "telemetry")
        return (
            known is not None
            and known["telemetry"] == row["telemetry"]
            and recorded_hash(known, "telemetry") == same
        )

    def _failure(self, key: str, task: Task, outcome: Outcome) -> dict[str, Any]:
        cell, failure = task.cells[key], outcome.failures[key]
        return {
            "key": key,
            "reason": failure.reason,
            "error": failure.error,
            "prompt": cell.prompt.text,
            "schedule": cell.schedule.name,
            "seed": cell.seed,
            "steps": task.settings.steps,
        }

    def _progress(self, task: Task, share: float) -> None:
        new = sum(key not in self.store.rows for key in task.wanted)
        self._running[_name(task)] = (new, _work(task), share)
        self._report()

    def _report(self) -> None:
        if self._callbacks.on_progress is None:
            return
        done = self.reused + self.computed + math.fsum(n * share for n, _, share in self._running.values())
        work = self._work_done + math.fsum(work * share for _, work, share in self._running.values())
        failed = sum(key in self.cells for key in self.store.failures)
        share = min(work / self._work, 1.0) if self._work else 1.0
        self._callbacks.on_progress(
            Progress(len(self.cells), self.reused, done, self._means, self.column, failed, share)
        )

    def _update_means(self) -> None:
        values: dict[str, list[float]] = {cell.schedule.name: [] for cell in self.cells.values()}
        for key, cell in self.cells.items():
            row = self.store.rows.get(key)
            if row is not None and self.column in row["metrics"]:
                values[cell.schedule.name].append(row["metrics"][self.column])
        self._means = {name: (math.fsum(v) / len(v) if v else math.nan, len(v)) for name, v in values.items()}


def _name(task: Task) -> str:
    return next(iter(task.cells))  # no cell is in two tasks, but an executor may return a copy of a task


def _work(task: Task) -> float:
    return float(len(task.cells) * task.settings.steps)


def is_stale(row: Mapping[str, Any], metric: NamedMetric) -> bool:
    """Whether a row has scores that another version of the metric's code gave."""
    return metric.name in row["scored"] and row.get("scorers", {}).get(metric.name) != metric.version


def rescoring_notes(rows: Iterable[Mapping[str, Any]], metrics: Sequence[NamedMetric]) -> list[Note]:
    """Return a note for each metric that scores pictures again because its code has changed."""
    listed = list(rows)
    notes = []
    for metric in metrics:
        stale = [
            row.get("scorers", {}).get(metric.name, "an unknown version")
            for row in listed
            if is_stale(row, metric)
        ]
        if stale:
            text = f"{plural(len(stale), 'picture')} scored by {', '.join(dict.fromkeys(stale))}"
            notes.append(Note("", f"metric {metric.name}: {text}; scored again by {metric.version}"))
    return notes


def score_again(
    store: RunStore,
    prompts: Mapping[str, Prompt],
    metrics: Sequence[NamedMetric],
    *,
    leave: Iterable[str] = (),
    batch_size: int = 16,
    should_stop: Callable[[], bool] | None = None,
) -> bool:
    """Score pictures on disk by metrics that are new to them, that failed on them, or whose code has changed.

    All scores of a metric in the store are of one version of its code, also those of cells that are not asked for.

    Returns True when all are scored, False when ``should_stop`` ended the loop.

    :param prompts: the prompt of each picture, by key.
    :param leave: keys whose failed metrics are not tried again.
    :param should_stop: called before every batch.
    """
    left = set(leave)
    by_need: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for key, row in store.rows.items():
        known = (*row["scored"], *(row["metric_errors"] if key in left else ()))
        need = tuple(m.name for m in metrics if is_stale(row, m) or (key in prompts and m.name not in known))
        if need:
            by_need.setdefault((need, row["generator"]), []).append(key)  # pictures of equal size
    for (need, _), keys in by_need.items():
        chosen = [m for m in metrics if m.name in need]
        for start in range(0, len(keys), batch_size):
            if should_stop is not None and should_stop():
                return False
            part = keys[start : start + batch_size]
            pictures = [store.load_image(key) for key in part]
            scores = score(chosen, pictures, [prompts.get(key) or prompt_of(store.rows[key]) for key in part])
            store.update([rescored(store.rows[k], s, chosen) for k, s in zip(part, scores, strict=True)])
    return True


def sort_rows(store: RunStore, batches: Iterable[Sequence[str]]) -> None:
    """Sort rows and failures by the plan. An uninterrupted run writes them in this order."""
    order = [key for batch in batches for key in batch]
    for mapping, replace in (
        (store.rows, store.replace_rows),
        (store.failures, store.replace_failures),
    ):
        placed = dict.fromkeys(key for key in order if key in mapping)
        replace([mapping[key] for key in [*placed, *(key for key in mapping if key not in placed)]])
