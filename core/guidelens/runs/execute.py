"""Compute a batch of cells, from a task to its outcome. Nothing here reads or writes the run's directory.

:mod:`guidelens.runs.drive` makes the tasks and writes their outcomes to disk. An :class:`Executor` computes them, in
this process or in others. Tasks and outcomes are plain data that can be pickled. Each worker has its own
:class:`ComponentCache`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from guidelens.errors import GuidelensError
from guidelens.guarding import ComponentError
from guidelens.pictures import png_bytes, to_picture
from guidelens.runs.config import Cell, RunSettings, canonical_json
from guidelens.runs.integrity import sha256_of
from guidelens.runs.provenance import provenance
from guidelens.runs.record import make_row
from guidelens.runs.scoring import NamedMetric, score, version_text
from guidelens.runs.telemetry import StepRecorder, batch_file, pack

if TYPE_CHECKING:
    from guidelens.engine import Engine, Step

logger = logging.getLogger(__name__)

MODELS_KEPT = 2
"""The number of generators, and of guidance models, that a cache keeps. Others are built again when needed."""

TaskProgress = Callable[["Task", float], None]
"""Called with a task and its finished share, from 0 to 1."""


@dataclass(frozen=True)
class CellGroup:
    """Cells with the same settings, for one engine. Their schedules are tables."""

    settings: RunSettings
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Task:
    """A batch to compute, with its planned cells.

    :param cells: by key; their schedules are tables.
    :param wanted: the keys of the pictures to keep. The others are drawn because the composition of a batch affects
        rounding.
    :param metrics: the names of the metrics that score the pictures.
    :param snapshots: progress values at which the predicted x0 is kept.
    :param tolerant: record a failed cell and compute the others; if False, raise its error.
    """

    settings: RunSettings
    cells: Mapping[str, Cell]
    wanted: frozenset[str]
    metrics: tuple[str, ...] = ()
    snapshots: tuple[float, ...] = ()
    tolerant: bool = True


@dataclass(frozen=True)
class Failure:
    """The reason why a cell has no picture: the error in one line, and its class."""

    reason: str
    error: str


@dataclass
class Outcome:
    """The result of a task: rows and pictures (PNG) by key, telemetry by file name, and the cells that failed."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    telemetry: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)

    def update(self, other: Outcome) -> None:
        """Add the outcome of another part of the same task."""
        self.rows |= other.rows
        self.pictures |= other.pictures
        self.telemetry |= other.telemetry
        self.failures |= other.failures


Outcomes: TypeAlias = Generator[tuple[Task, Outcome], None, None]
"""Tasks with their outcomes. A consumer that stops early must close it."""


class Executor(Protocol):
    """Computes tasks, here or elsewhere.

    Optional method: ``order(tasks)`` returns the tasks in the order in which the executor wants them.
    """

    def outcomes(self, tasks: Iterable[Task], report: TaskProgress) -> Outcomes:
        """Compute tasks, and yield each with its outcome as soon as it is finished.

        ``tasks`` may end early to stop the run. Tasks that were already taken from it must be finished. Call
        ``report`` with a task and its finished share. Use both arguments only in the caller's thread.
        """
        ...


class ComponentCache:
    """Builds models and metrics when a task first needs them, and keeps the most recent ones.

    :param build: returns a component, given its kind (``generator``, ``guidance``, ``metric``) and its name in the
        settings.
    :param device: as :class:`guidelens.engine.Engine` takes it.
    :param versions: returns name and version of the plugin that offers a component; empty if no plugin offers it.
    """

    def __init__(
        self,
        build: Callable[[str, str], Any],
        *,
        device: str = "auto",
        versions: Callable[[str, str], Mapping[str, str]] = lambda kind, name: {},
    ) -> None:
        self.device = device
        self._build = build
        self._versions = versions
        self._models: dict[str, OrderedDict[str, Any]] = {}
        self._metrics: dict[str, NamedMetric] = {}
        self._engine: tuple[str, Engine] | None = None

    def model(self, kind: str, name: str) -> Any:
        """Return a generator or a guidance model. Building one may drop the least recently used one."""
        kept = self._models.setdefault(kind, OrderedDict())
        if name not in kept:
            while len(kept) >= MODELS_KEPT:
                kept.popitem(last=False)
                self._engine = None  # it may reference the dropped model
            kept[name] = self._build(kind, name)
        kept.move_to_end(name)
        return kept[name]

    def metrics(self, names: Sequence[str]) -> list[NamedMetric]:
        """Return metrics by name."""
        for name in names:
            if name not in self._metrics:
                self._metrics[name] = NamedMetric(
                    name, self._build("metric", name), version_text(self._versions("metric", name))
                )
        return [self._metrics[name] for name in names]

    def engine(self, settings: RunSettings) -> Engine:
        """Return the engine of these settings."""
        key = canonical_json(settings.as_dict())
        if self._engine is None or self._engine[0] != key:
            from guidelens.engine import Engine
            from guidelens.guidance import resolve

            generator = self.model("generator", settings.generator.name)
            guidance = self.model("guidance", settings.guidance.name)
            resolved = resolve(settings.sampling, generator, guidance)
            self._engine = (key, Engine(generator, guidance, resolved, device=self.device))
        return self._engine[1]

    def provenance(self, settings: RunSettings) -> dict[str, Any]:
        """Return versions, threads and device of pictures that this cache computes, for their rows."""
        models = (("generator", settings.generator), ("guidance", settings.guidance))
        plugins = {
            name: version
            for kind, model in models
            for name, version in self._versions(kind, model.name).items()
        }
        return provenance(self.engine(settings).device, plugins)

    def keep_metrics(self, metrics: Sequence[NamedMetric]) -> None:
        """Store metrics that exist already."""
        self._metrics.update((metric.name, metric) for metric in metrics)

    def keep(self, settings: RunSettings, engine: Engine) -> None:
        """Store an engine that exists already."""
        self._engine = (canonical_json(settings.as_dict()), engine)


class InProcess:
    """Computes tasks in this process, one after the other."""

    def __init__(self, cache: ComponentCache) -> None:
        self.cache = cache

    def outcomes(self, tasks: Iterable[Task], report: TaskProgress) -> Outcomes:
        """See :class:`Executor`."""
        for task in tasks:
            yield task, compute(task, self.cache, report)


def check_fingerprints(settings: RunSettings, cache: ComponentCache) -> None:
    """Raise GuidelensError if a model of the cache has another fingerprint than the settings."""
    for kind, planned in (("generator", settings.generator), ("guidance", settings.guidance)):
        here = str(cache.model(kind, planned.name).fingerprint)
        if here != planned.fingerprint:
            raise GuidelensError(
                f"the {kind} {planned.name!r} has the fingerprint {here} here and {planned.fingerprint} in the run: "
                "this machine has other weights or another plugin"
            )


def make_task(group: CellGroup, keys: Sequence[str], wanted: Iterable[str], **extra: Any) -> Task:
    """Return the task of a batch of ``group``; ``extra`` are further fields of :class:`Task`."""
    cells = {key: group.cells[key] for key in keys}
    return Task(group.settings, cells, frozenset(wanted), **extra)


def compute(task: Task, cache: ComponentCache, report: TaskProgress | None = None) -> Outcome:
    """Draw and score the cells of a task.

    If a tolerant task fails, its halves are computed separately, and so on down to the failing cells. A task is
    always split in the same way, so that the pictures of its other cells are reproducible.

    :raises Exception: any error of drawing, if the task is not tolerant.
    """
    try:
        return _compute(task, cache, report)
    except Exception as error:  # plugin code may raise anything
        if not task.tolerant:
            raise
        if len(task.cells) == 1:
            logger.debug("cell %s failed", next(iter(task.cells)), exc_info=True)
            return Outcome(failures={key: _failure(error) for key in task.cells})
    outcome = Outcome()
    keys = list(task.cells)
    for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
        wanted = task.wanted.intersection(half)
        if wanted:
            part = replace(task, cells={key: task.cells[key] for key in half}, wanted=wanted)
            outcome.update(compute(part, cache))
    return outcome


def _compute(task: Task, cache: ComponentCache, report: TaskProgress | None) -> Outcome:
    from guidelens.engine import Sample

    engine = cache.engine(task.settings)
    engine.batch_size = len(task.cells)
    recorder = StepRecorder(task.settings.steps, task.snapshots)
    cells = list(task.cells.values())

    def on_step(step: Step) -> None:
        recorder(step)
        if report is not None:
            # Scoring counts as one more step.
            report(task, (step.index + 1) / (task.settings.steps + 1))

    samples = [Sample(c.prompt.text, c.schedule.schedule, c.seed, label=c.schedule.name) for c in cells]
    results = list(engine.run(samples, on_step=on_step))
    pictures = [to_picture(result.image) for result in results]
    scores = score(cache.metrics(task.metrics), pictures, [cell.prompt for cell in cells])
    file = batch_file(list(task.cells))
    weights = [cell.schedule.table(task.settings.steps).by_objective for cell in cells]
    where = cache.provenance(task.settings)
    outcome = Outcome(telemetry={file: pack(list(task.cells), results, weights, recorder)})
    steps = sha256_of(outcome.telemetry[file])
    for (key, cell), result, picture, scored in zip(
        task.cells.items(), results, pictures, scores, strict=True
    ):
        if key in task.wanted:
            outcome.pictures[key] = png_bytes(picture)
            hashes = {"image": sha256_of(outcome.pictures[key]), "telemetry": steps}
            outcome.rows[key] = make_row(key, cell, task.settings, result, scored, file, hashes, where)
    return outcome


def _failure(error: Exception) -> Failure:
    text = " ".join(str(error).split()) or type(error).__name__
    kind = type(error.__cause__ or error if isinstance(error, ComponentError) else error).__name__
    return Failure(text if isinstance(error, GuidelensError) else f"{kind}: {text}", kind)
