"""Deterministic planning: the cells of a request, and the batches in which they are computed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.runs.config import Cell, RunSettings
from guidelens.schedules import NamedSchedule

Batch = list[str]


@dataclass(frozen=True)
class Plan:
    """Batches of keys: all batches that the run has ever planned, and those with missing cells."""

    batches: list[Batch]
    todo: list[Batch]


def all_cells(
    prompts: Iterable[Prompt], schedules: Sequence[NamedSchedule], seeds: Sequence[int], settings: RunSettings
) -> dict[str, Cell]:
    """Return every combination by key, prompts outermost, seeds innermost."""
    tables = [schedule.tabulated(settings.steps) for schedule in schedules]
    cells = (Cell(prompt, schedule, seed) for prompt in prompts for schedule in tables for seed in seeds)
    return {cell.key(settings): cell for cell in cells}


def make_plan(
    cells: Mapping[str, Cell],
    recorded: Sequence[Sequence[str]],
    done: Collection[str],
    batch_size: int,
    *,
    groups: Sequence[Collection[str]] | None = None,
) -> Plan:
    """Plan batches for the cells that are not ``done``. Batches that an earlier call ``recorded`` are kept.

    Networks round differently in batches of another size or composition. So an interrupted batch is computed with its
    old composition: interrupted and uninterrupted runs agree bit for bit. A recorded batch is split if it is too
    large now or if this request lacks some of its cells.

    :param groups: groups of keys, one per engine, in the order of computation. Each key is in one group. None: one
        group. No batch mixes groups.
    """
    batches: list[Batch] = []
    todo: list[Batch] = []
    loose: set[str] = set()
    for old in recorded:
        missing = {key for key in old if key not in done}
        if missing and not (len(old) <= batch_size and all(key in cells for key in old)):
            taken = missing & cells.keys()
            loose |= taken
            rest = [key for key in old if key not in taken]
            batches += [rest] if rest else []
            continue
        batches.append(list(old))
        todo += [list(old)] if missing else []
    planned = {key for batch in batches for key in batch}
    new = {key for key in cells if key in loose or (key not in planned and key not in done)}
    fresh: list[Batch] = []
    for group in [cells] if groups is None else groups:
        fresh += _cut({key: cells[key] for key in group if key in new}, batch_size)
    return Plan(batches + fresh, todo + fresh)


def _cut(cells: Mapping[str, Cell], batch_size: int) -> list[Batch]:
    """Split cells into batches of one schedule each, in turn. Then only the objectives of one schedule are evaluated.

    A request that fits into one batch is one batch.
    """
    if len(cells) <= batch_size:
        return [list(cells)] if cells else []
    queues: dict[str, list[str]] = {}
    for key, cell in cells.items():
        queues.setdefault(cell.schedule.name, []).append(key)
    pieces = [_even_pieces(queue, batch_size) for queue in queues.values()]
    turns = max(len(p) for p in pieces)
    return [p[turn] for turn in range(turns) for p in pieces if turn < len(p)]


def _even_pieces(keys: Sequence[str], largest: int) -> list[Batch]:
    count = -(-len(keys) // largest)
    edges = [round(i * len(keys) / count) for i in range(count + 1)]
    return [list(keys[a:b]) for a, b in pairwise(edges)]


def check_schedules(
    schedules: Sequence[NamedSchedule], objectives: Collection[str], guidance: str, steps: int
) -> None:
    """Raise UsageError if a name is used twice or the guidance model lacks an objective."""
    seen: set[str] = set()
    for schedule in schedules:
        if schedule.name in seen:
            raise UsageError(
                f"two schedules have the name {schedule.name!r}; give each its own name", setting="schedules"
            )
        seen.add(schedule.name)
        unknown = sorted(schedule.table(steps).by_objective.keys() - set(objectives))
        if unknown:
            offered = ", ".join(sorted(objectives))
            raise UsageError(
                f"schedule {schedule.name!r} needs the objective {unknown[0]!r}, which {guidance} lacks "
                f"(it has {offered}); choose others with --schedule",
                setting="schedules",
            )
