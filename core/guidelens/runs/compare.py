"""Compare schedules on the same prompts and the same noise: plan the cells, compute what is missing, write
the page.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt, Schedule
from guidelens.errors import UsageError
from guidelens.runs.assemble import assemble
from guidelens.runs.config import as_prompts, parse_seeds
from guidelens.runs.plan import Plan, all_cells, make_plan
from guidelens.runs.record import Request, make_row, merged_config, rescored
from guidelens.runs.resolve import resolve_components
from guidelens.runs.scoring import failures, score
from guidelens.runs.stats import Estimate, summarise
from guidelens.runs.store import RunStore, read_config, refuse_foreign

if TYPE_CHECKING:
    from guidelens.engine import Engine, Step
    from guidelens.guidance import GuidanceOptions
    from guidelens.plugins import PluginManager

GRID, PAGE = "grid.png", "index.html"


@dataclass(frozen=True)
class Progress:
    """Where a running comparison stands; handed to ``on_progress`` after every sampling step and every
    batch.
    """

    total: int
    """Cells that the request asks for."""
    reused: int
    """Cells that were on disk before."""
    done: float
    """Cells on disk, counting a running batch in proportion to its steps."""
    means: Mapping[str, tuple[float, int]]
    """Schedule -> (mean, n) of the first metric column so far."""
    column: str
    """The name of that column; empty without metrics."""


@dataclass(frozen=True)
class Comparison:
    """What a finished comparison left behind."""

    directory: Path
    page: Path
    grid: Path
    rows: list[dict[str, Any]]
    """The rows of the cells asked for, prompts outermost, seeds innermost."""
    computed: int
    """Cells written by this call."""
    reused: int
    """Cells found on disk."""
    estimates: dict[str, dict[str, Estimate]]
    """Schedule -> metric column -> mean and interval over these rows."""
    failures: list[tuple[str, str, int]] = field(default_factory=list)
    """(metric, reason, number of cells) for each metric that failed somewhere."""


def compare(
    prompts: str | Iterable[str | Prompt] | None = None,
    *,
    out: str | Path,
    prompt_set: str | None = None,
    limit: int | None = None,
    schedules: Sequence[str | Schedule] | Mapping[str, Schedule] | None = None,
    seeds: int | str | Sequence[int] = 4,
    steps: int = 50,
    sampler: str = "ddpm",
    eta: float = 0.0,
    generator: str | Generator | None = None,
    guidance: str | GuidanceModel | None = None,
    metrics: Sequence[str | Metric] | None = None,
    options: GuidanceOptions | None = None,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int = 16,
    plugins: PluginManager | None = None,
    command: str = "",
    component_arguments: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str, str], None] | None = None,
) -> Comparison:
    """Draw every prompt under every schedule with every seed, score the pictures, and write the run to
    ``out``.

    Components are given by name (``"shapes"``, ``"blend:itc=0.5,cap=0.5"``) or as objects; None takes the
    default of the loaded plugins. Cells already in ``out`` are not computed again; a grid may grow from call
    to call, other settings are refused. Interrupt it at any moment: the same call goes on where it stopped.

    :param prompts: texts or prompts; None takes the prompt set.
    :param prompt_set: name of a registered prompt set, used where no prompts are given.
    :param limit: use only the first ``limit`` prompts.
    :param schedules: names or objects, or objects by the name they go by.
    :param seeds: a number of seeds (4: 0 to 3), a list such as ``"0,3,7-9"``, or the seeds.
    :param metrics: names or objects; None takes those of the plugin that offers the generator; ``()`` none.
    :param command: recorded in ``config.json`` and shown on the page as the way to repeat the run.
    :param component_arguments: recorded likewise: options of ``guidelens generate`` that repeat a single
        cell.
    :param on_progress: called with the state after every step.
    :param on_note: called once with each (prompt, note) that the text encoder has to say, before sampling.
    :raises UsageError: for a request that makes no sense, or a directory that holds something else.
    :raises GuidelensError: for a directory that cannot be written, or sampling that failed.
    """
    directory = Path(out)
    refuse_foreign(directory)
    if directory.is_dir():
        read_config(directory)
    seed_list = _seeds(seeds)
    given = None if prompts is None else _limited(as_prompts(prompts), limit)
    parts = resolve_components(
        plugins,
        generator=generator,
        guidance=guidance,
        schedules=schedules,
        metrics=metrics,
        prompt_set=prompt_set,
        needs_prompts=given is None,
    )
    chosen = _limited(as_prompts(parts.prompts), limit) if given is None else given
    engine, settings = assemble(
        parts,
        steps=steps,
        sampler=sampler,
        eta=eta,
        options=options,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
    request = Request(
        settings=settings,
        prompts=chosen,
        schedules=tuple(parts.schedules),
        seeds=seed_list,
        metrics=tuple(parts.metrics),
        device=str(engine.device),
        batch_size=batch_size,
        plugin_versions=parts.versions,
        command=command,
        component_arguments=component_arguments,
    )
    told = _notes(parts.guidance.component, chosen) if on_note is not None else []
    with RunStore(directory) as store:
        run = _Run(store, engine, request, on_progress)
        for prompt, note in told:
            if on_note is not None:
                on_note(prompt, note)
        with notes_once(told):
            return run.execute()


class _Run:
    """One request against one open store."""

    def __init__(
        self,
        store: RunStore,
        engine: Engine,
        request: Request,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.store, self.engine, self.request, self.on_progress = store, engine, request, on_progress
        self.cells = all_cells(request.prompts, request.schedules, request.seeds, request.settings)
        self.reused = sum(key in store.rows for key in self.cells)
        self.computed = 0
        self.column = next((c for m in request.metrics for c in m.metric.columns), "")
        self.means: dict[str, tuple[float, int]] = {}
        self._update_means()
        self.plan = self._record()

    def execute(self) -> Comparison:
        for batch in self.plan.todo:
            self._compute(batch)
        self._score_again()
        order = [key for batch in self.plan.batches for key in batch if key in self.store.rows]
        placed = set(order)
        order += [key for key in self.store.rows if key not in placed]
        self.store.replace_rows(self.store.rows[key] for key in order)
        return self._finish()

    def _record(self) -> Plan:
        """Plan, and write the plan into ``config.json`` before the first cell, so that a rerun finds it."""
        config = merged_config(self.request, self.store.config)
        plan = make_plan(self.cells, config["batches"], self.store.rows.keys(), self.request.batch_size)
        self.store.write_config({**config, "batches": plan.batches})
        return plan

    def _compute(self, batch: Sequence[str]) -> None:
        """Compute a batch in its planned make-up and write those of its cells that are not there yet."""
        from guidelens.engine import Sample
        from guidelens.report.pictures import to_picture

        cells = [self.cells[key] for key in batch]
        missing = [key for key in batch if key not in self.store.rows]
        samples = [Sample(c.prompt.text, c.schedule.schedule, c.seed, label=c.schedule.name) for c in cells]

        def on_step(step: Step) -> None:
            # Scoring and writing count as one more step: a batch is done when it is on disk.
            self._report(len(missing) * (step.index + 1) / (self.request.settings.steps + 1))

        self._report(0.0)
        results = list(self.engine.run(samples, on_step=on_step))
        pictures = [to_picture(result.image) for result in results]
        scores = score(self.request.metrics, pictures, [cell.prompt for cell in cells])
        rows = {
            key: make_row(key, cell, self.request.settings, result, scored)
            for key, cell, result, scored in zip(batch, cells, results, scores, strict=True)
        }
        images = dict(zip(batch, pictures, strict=True))
        self.store.add({key: images[key] for key in missing}, [rows[key] for key in missing])
        self.computed += len(missing)
        self._update_means()
        self._report(0.0)

    def _score_again(self) -> None:
        """Score pictures on disk by metrics that are new to them or that failed on them before."""
        by_need: dict[tuple[str, ...], list[str]] = {}
        fresh = {key for batch in self.plan.todo for key in batch}
        for key in self.cells:
            row = self.store.rows[key]
            known = (*row["scored"], *(row["metric_errors"] if key in fresh else ()))
            need = tuple(m.name for m in self.request.metrics if m.name not in known)
            if need:
                by_need.setdefault(need, []).append(key)
        updated: dict[str, dict[str, Any]] = {}
        for need, keys in by_need.items():
            metrics = [m for m in self.request.metrics if m.name in need]
            for start in range(0, len(keys), self.request.batch_size):
                part = keys[start : start + self.request.batch_size]
                pictures = [self.store.load_image(key) for key in part]
                scores = score(metrics, pictures, [self.cells[key].prompt for key in part])
                updated |= {k: rescored(self.store.rows[k], s) for k, s in zip(part, scores, strict=True)}
        if updated:
            self.store.replace_rows([updated.get(key, row) for key, row in self.store.rows.items()])

    def _finish(self) -> Comparison:
        from guidelens.report.grid import draw_grid
        from guidelens.report.page import render_page
        from guidelens.runs.store import png_bytes

        everything = ordered(self.store.config or {}, self.store.rows.values())
        grid = self.store.write(GRID, png_bytes(draw_grid(everything, self.store.load_image)))
        page = self.store.write(PAGE, render_page(self.store.directory))
        rows = [self.store.rows[key] for key in self.cells]
        return Comparison(
            self.store.directory,
            page,
            grid,
            rows,
            self.computed,
            self.reused,
            summarise(rows),
            failures(rows),
        )

    def _report(self, running: float) -> None:
        if self.on_progress is not None:
            done = self.reused + self.computed + running
            self.on_progress(Progress(len(self.cells), self.reused, done, self.means, self.column))

    def _update_means(self) -> None:
        values: dict[str, list[float]] = {schedule.name: [] for schedule in self.request.schedules}
        for key, cell in self.cells.items():
            row = self.store.rows.get(key)
            if row is not None and self.column in row["metrics"]:
                values[cell.schedule.name].append(row["metrics"][self.column])
        self.means = {name: (math.fsum(v) / len(v) if v else math.nan, len(v)) for name, v in values.items()}


def ordered(config: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows prompts outermost, then schedules, then seeds, each in the order of the configuration."""
    prompts = {(p["text"], p["reference"]): i for i, p in enumerate(config["prompts"])}
    schedules = {s["name"]: i for i, s in enumerate(config["schedules"])}
    return sorted(
        rows,
        key=lambda r: (
            prompts.get((r["prompt"], r["reference"]), 0),
            schedules.get(r["schedule"], 0),
            r["seed"],
        ),
    )


@contextmanager
def notes_once(told: Iterable[tuple[str, str]] = ()) -> Iterator[None]:
    """Let the engine log each note on a prompt once for the whole run, not once a batch; never one already
    ``told``.
    """
    seen = {f"{prompt!r}: {note}" for prompt, note in told}

    def first_time(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        known = message in seen
        seen.add(message)
        return not known

    engine_logger = logging.getLogger("guidelens.engine")
    engine_logger.addFilter(first_time)
    try:
        yield
    finally:
        engine_logger.removeFilter(first_time)


def _notes(guidance: GuidanceModel, prompts: Sequence[Prompt]) -> list[tuple[str, str]]:
    notes = guidance.encode_text([prompt.text for prompt in prompts]).notes
    return [(prompt.text, line) for prompt, lines in zip(prompts, notes, strict=False) for line in lines]


def _limited(prompts: tuple[Prompt, ...], limit: int | None) -> tuple[Prompt, ...]:
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} prompts leaves nothing to draw; use at least 1")
    return prompts[:limit]


def _seeds(seeds: int | str | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, (int, str)):
        return parse_seeds(str(seeds))
    listed = tuple(dict.fromkeys(int(seed) for seed in seeds))
    if not listed or min(listed) < 0:
        raise UsageError(f"seeds {list(seeds)!r}: give at least one, none negative")
    return listed
