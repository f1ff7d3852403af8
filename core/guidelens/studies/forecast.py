"""Forecast the cost of a study: cells by grid, time from a few measured steps, peak memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.runs.execute import CellGroup, ComponentCache
from guidelens.runs.store import RESULTS, STUDY, earlier_config, read_failures, read_rows

from .expand import Expansion, expand
from .file import Study
from .prompts import Perturb
from .results import MISSING
from .run import chosen_batch_size, outline, refuse_other, study_component_cache, study_plugins

if TYPE_CHECKING:
    import torch

    from guidelens.engine import Engine, Sample
    from guidelens.plugins import PluginManager

logger = logging.getLogger(__name__)

SLOW_STEP = 2.0
"""If one step of one picture takes more seconds, larger batches are not measured: their cost is taken as
proportional."""

_PROBED_STEPS = 3
"""Number of measured steps. The first step is not measured: it warms up, and some schedules use fewer objectives
there."""


@dataclass(frozen=True)
class PlannedStudy:
    """A study before it is run, with all cells missing, for claims to check."""

    config: dict[str, Any]
    cells: Sequence[dict[str, Any]]

    @classmethod
    def of(cls, study: Study, expansion: Expansion) -> PlannedStudy:
        """Return the planned study of an expansion."""
        return cls(outline(study, expansion), [{**member, "status": MISSING} for member in expansion.members])


@dataclass(frozen=True)
class Forecast:
    """Forecast of the cost of a study's missing cells on this machine, from a few measured steps.

    :param grids: number of cells by grid; ``total`` counts shared cells once.
    :param missing: number of cells that are neither on disk nor recorded as failed.
    :param failed: number of cells that are recorded as failed. Only ``retry_failed`` tries them again.
    :param seconds: sampling time at the measured rates.
    :param steps: number of sampling steps of all these pictures.
    :param memory: peak memory in bytes during the measured steps: of the GPU, or on other devices of the process.
    :param planned: the study with all cells missing, for claims to check.
    """

    study: Study
    grids: Mapping[str, int]
    total: int
    missing: int
    failed: int
    steps: int
    seconds: float
    memory: int
    device: str
    batch_size: int
    planned: PlannedStudy


def forecast(
    study: Study,
    plugins: PluginManager,
    *,
    out: str | Path | None = None,
    device: str | None = None,
    batch_size: int | str | None = None,
    retry_failed: bool = False,
    perturb: Perturb | None = None,
) -> Forecast:
    """Expand a study, and measure a few steps of each kind of cell that ``out`` lacks. Nothing is written.

    :param retry_failed: cells that failed before count as missing.
    :raises UsageError, GuidelensError: as :func:`~guidelens.studies.run.run_study`.
    """
    plugins = study_plugins(study, plugins)
    cache = study_component_cache(study, plugins, device)
    done: set[str] = set()
    failed: set[str] = set()
    old = None
    if out is not None:
        old = earlier_config(Path(out), STUDY)
        refuse_other(Path(out), old, study)
        if old is not None:
            done = set(read_rows(Path(out) / RESULTS)[0])
            failed = set() if retry_failed else set(read_failures(Path(out))) - done
    expansion = expand(study, plugins, cache, perturb=perturb)
    keys = set(expansion.prompts)
    size = chosen_batch_size(batch_size or study.batch_size, old, cache, expansion)
    measured = _measure(expansion, done | failed, cache, size)
    return Forecast(
        study=study,
        grids=expansion.sizes(),
        total=len(keys),
        missing=len(keys - done - failed),
        failed=len(keys & failed),
        steps=measured.steps,
        seconds=measured.seconds,
        memory=measured.memory,
        device=str(measured.device),
        batch_size=size,
        planned=PlannedStudy.of(study, expansion),
    )


def _measure(expansion: Expansion, done: set[str], cache: ComponentCache, batch_size: int) -> _Measured:
    """Measure each kind of missing cell once, and add up the costs."""
    from guidelens.bench.timing import peak_memory
    from guidelens.networks import resolve_device

    found = _Measured(device=resolve_device(cache.device))
    costs: dict[tuple[object, ...], float] = {}

    def measure() -> None:
        for group in expansion.groups:
            by_schedule: dict[str, list[str]] = {}
            for key, cell in group.cells.items():
                if key not in done:
                    by_schedule.setdefault(cell.schedule.name, []).append(key)
            for keys in by_schedule.values():
                probe = _Probe(group, keys[:batch_size], cache)
                if probe.kind not in costs:
                    costs[probe.kind] = probe.seconds_per_step()
                laps = cache.engine(group.settings).settings.repetitions
                found.seconds += costs[probe.kind] * len(keys) * sum(laps)
                found.steps += len(keys) * len(laps)

    found.memory = peak_memory(found.device, measure).peak
    return found


@dataclass
class _Measured:
    device: torch.device
    seconds: float = 0.0
    steps: int = 0
    memory: int = 0


class _Probe:
    """Measures steps of cells of equal cost: same models, objectives, batch size and cost-relevant options."""

    def __init__(self, group: CellGroup, keys: Sequence[str], cache: ComponentCache) -> None:
        self.group, self.keys, self.cache = group, keys, cache
        self.schedule = group.cells[keys[0]].schedule
        table = self.schedule.table(group.settings.steps).by_objective
        options = group.settings.sampling
        self.kind = (
            group.settings.generator.name,
            group.settings.guidance.name,
            *(options.through, options.augment, options.augmentations, options.smoothing, options.every),
            tuple(sorted((name, _pattern(row)) for name, row in table.items())),
            len(keys),
        )

    def seconds_per_step(self) -> float:
        """Return the seconds of one step of one picture."""
        from guidelens.engine import Sample

        engine = self.cache.engine(self.group.settings)
        cells = [self.group.cells[key] for key in self.keys]
        samples = [Sample(cell.prompt.text, self.schedule.schedule, cell.seed) for cell in cells]
        alone = self._timed(engine, samples[:1], 1)
        if alone > SLOW_STEP or len(samples) == 1:
            return alone
        return self._timed(engine, samples, _PROBED_STEPS) / len(samples)

    def _timed(self, engine: Engine, samples: Sequence[Sample], steps: int) -> float:
        """Return the mean seconds of the first steps of a batch, without the very first: it warms up."""
        marks = [time.perf_counter()]
        stream = engine.stream(samples)
        try:
            for step in islice(stream, steps + 1):
                float(step.sample.sum())  # waits for the device
                marks.append(time.perf_counter())
        except Exception:  # it diverges, or a plugin raises; a run would record this for each cell
            logger.debug("a step could not be measured", exc_info=True)
        finally:
            stream.close()
        spans = [b - a for a, b in pairwise(marks)]
        measured = spans[1:] or spans
        return sum(measured) / len(measured) if measured else 0.0


def _pattern(row: Sequence[float]) -> tuple[bool, bool, bool]:
    return row[0] != 0, row[len(row) // 2] != 0, row[-1] != 0
