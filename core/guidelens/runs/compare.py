"""Compare schedules on the same prompts and the same noise: plan the cells, compute what is missing, write
the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt
from guidelens.pictures import png_bytes
from guidelens.prompts import Perturbed, perturb_prompts
from guidelens.runs.assemble import assemble
from guidelens.runs.config import as_prompts
from guidelens.runs.drive import Driver, Progress, score_again, sort_rows
from guidelens.runs.execute import ComponentCache, Group, InProcess
from guidelens.runs.notes import Note, prompt_notes
from guidelens.runs.plan import all_cells, check_schedules, make_plan
from guidelens.runs.provenance import upgrade_note, versions
from guidelens.runs.record import ComparisonRequest, merged_config
from guidelens.runs.resolve import Components, resolve_components
from guidelens.runs.scoring import failures
from guidelens.runs.store import COMPARISON, RunStore, read_config, refuse_foreign
from guidelens.sampling import Sampling
from guidelens.schedules import ScheduleSpec
from guidelens.seeds import read_seeds
from guidelens.stats import Estimate, perturbation_effects, summarise

if TYPE_CHECKING:
    from guidelens.engine import Engine, Sample
    from guidelens.guidance import Settings
    from guidelens.plugins import PluginManager

GRID, PAGE = "grid.png", "index.html"


@dataclass(frozen=True)
class Comparison:
    """What a finished comparison left behind."""

    directory: Path
    page: Path
    grid: Path
    rows: list[dict[str, Any]]
    """The rows of the cells asked for, prompts outermost, seeds innermost; of those there are, where it stopped."""
    computed: int
    """Cells written by this call."""
    reused: int
    """Cells found on disk."""
    estimates: dict[str, dict[str, Estimate]]
    """Schedule -> metric column -> mean and interval over these rows."""
    failures: list[tuple[str, str, int]] = field(default_factory=list)
    """(metric, reason, number of cells) for each metric that failed somewhere."""
    column: str = ""
    """The first metric column; empty without metrics."""
    effects: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    """Schedule -> perturbation -> mean change of ``column`` from the clean prompt, paired."""
    notes: tuple[Note, ...] = ()
    """What the reader should know of prompts and settings."""
    stopped: bool = False
    """It was asked to stop before all was done; there is no page yet where no picture was finished."""


def compare(
    prompts: str | Iterable[str | Prompt] | None = None,
    *,
    out: str | Path,
    schedules: ScheduleSpec | None = None,
    seeds: int | str | Sequence[int] = 4,
    sampling: Sampling | None = None,
    generator: str | Generator | None = None,
    guidance: str | GuidanceModel | None = None,
    metrics: Sequence[str | Metric] | None = None,
    perturbations: Sequence[str] = (),
    perturbation_seed: int = 0,
    device: str = "auto",
    batch_size: int | str = 16,
    plugins: PluginManager | None = None,
    command: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[Note], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Comparison:
    """Draw every prompt under every schedule with every seed, score the pictures, and write the run to
    ``out``.

    Components are given by name (``"shapes"``, ``"blend:itc=0.5,cap=0.5"``) or as objects; None takes the
    default of the loaded plugins. Cells already in ``out`` are not computed again; a grid may grow from call
    to call, other settings are refused. Interrupt it at any moment: the same call goes on where it stopped.

    :param prompts: texts or prompts; None takes the default prompt set.
    :param schedules: one or several names or objects, or objects by the name they go by.
    :param seeds: a number of seeds (4: 0 to 3), a list such as ``"0,3,7-9"``, or the seeds.
    :param sampling: how pictures are drawn; None: :class:`~guidelens.sampling.Sampling` with its defaults.
    :param metrics: names or objects; None takes those of the plugin that offers the generator; ``()`` none.
    :param perturbations: draw each prompt perturbed as well, such as ``["typo:edits=1"]``
        (:func:`guidelens.prompts.perturb`); metrics compare with the clean prompt.
    :param perturbation_seed: of the perturbations.
    :param batch_size: pictures computed at once; ``auto``: as many as should fit into memory.
    :param command: recorded in ``config.json`` and shown on the page as the way to repeat the run.
    :param on_progress: called with the state after every step.
    :param on_note: called once with each of the comparison's ``notes``, before sampling.
    :param should_stop: asked before every batch; True ends the run after the batch in flight.
    :raises UsageError: for a request that makes no sense, or a directory that holds something else.
    :raises GuidelensError: for a directory that cannot be written, or sampling that failed.
    """
    from guidelens.engine import Sample

    directory = Path(out)
    refuse_foreign(directory)
    old = read_config(directory, COMPARISON) if directory.is_dir() else None
    if batch_size == "auto" and old is not None:
        batch_size = old["batch_size"]  # batches of another size would round differently
    seed_list = read_seeds(seeds)
    given = None if prompts is None else as_prompts(prompts)
    parts = resolve_components(
        plugins,
        generator=generator,
        guidance=guidance,
        schedules=schedules,
        metrics=metrics,
        needs_prompts=given is None,
    )
    clean = as_prompts(parts.prompts) if given is None else given
    everything, forms = perturb_prompts(clean, perturbations, perturbation_seed)
    chosen = as_prompts(everything)
    settings, recorded = assemble(parts.generator, parts.guidance, sampling or Sampling())
    tables = [schedule.tabulated(settings.steps) for schedule in parts.schedules]
    check_schedules(tables, settings.objectives, parts.guidance.name, settings.steps)
    engine = _engine(parts, settings, device, batch_size, Sample(chosen[0].text, tables[0].schedule))
    cache = _component_cache(parts, device)
    cache.keep(recorded, engine)
    notes = prompt_notes(parts.guidance.component, [prompt.text for prompt in chosen])
    request = ComparisonRequest(
        settings=recorded,
        prompts=chosen,
        schedules=tuple(tables),
        seeds=seed_list,
        metrics=tuple(parts.metrics),
        device=str(engine.device),
        batch_size=int(engine.batch_size),
        plugin_versions=parts.versions,
        plugins=parts.requests,
        command=command,
        perturbed=_records(clean, forms),
        notes=(
            *(Note("", text) for text in settings.notes),
            *notes,
        ),
    )
    told = (*request.notes, *(Note(form.clean, form.note) for form in forms if form.note))
    with RunStore(directory) as store:
        for note in told if on_note is not None else ():
            on_note(note)  # type: ignore[misc]  # the line above has looked
        return _carry_out(store, request, told, cache, on_progress, on_note, should_stop)


def _engine(
    parts: Components, settings: Settings, device: str, batch_size: int | str, sample: Sample
) -> Engine:
    """Return the engine of a run; ``auto`` becomes the batch size that ``sample`` predicts."""
    from guidelens.engine import Engine

    engine = Engine(
        parts.generator.component,
        parts.guidance.component,
        settings,
        device=device,
        batch_size=batch_size,  # type: ignore[arg-type]  # a number or "auto", which Engine checks
    )
    if engine.batch_size == "auto":
        engine.batch_size = engine.predict_batch_size(sample)
    return engine


def _carry_out(
    store: RunStore,
    request: ComparisonRequest,
    notes: tuple[Note, ...],
    cache: ComponentCache,
    on_progress: Callable[[Progress], None] | None,
    on_note: Callable[[Note], None] | None,
    should_stop: Callable[[], bool] | None,
) -> Comparison:
    """Carry out one request against one open store."""
    cells = all_cells(request.prompts, request.schedules, request.seeds, request.settings)
    group = Group(request.settings, cells)
    column = next((column for metric in request.metrics for column in metric.columns), "")
    driver = Driver(store, [group], column=column, on_progress=on_progress, should_stop=should_stop)
    size = request.batch_size
    # The plan is on disk before the first cell, so that a rerun finds it.
    config = merged_config(request, store.config)
    plan = make_plan(cells, config["batches"], store.rows.keys(), size)
    store.write_config({**config, "batches": plan.batches})
    upgraded = upgrade_note(store.rows.values(), versions(request.plugin_versions)) if plan.todo else None
    if upgraded is not None and on_note is not None:
        on_note(upgraded)
    names = tuple(metric.name for metric in request.metrics)
    driver.run(plan.todo, InProcess(cache), metrics=names, tolerant=False)
    fresh = [key for batch in plan.todo for key in batch]
    prompts = {key: cell.prompt for key, cell in cells.items()}
    if not driver.stopped:
        driver.stopped = not score_again(
            store, prompts, request.metrics, leave=fresh, batch_size=size, should_stop=should_stop
        )
    sort_rows(store, plan.batches)
    if store.rows:
        write_pages(store)
    rows = [store.rows[key] for key in cells if key in store.rows]
    return Comparison(
        directory=store.directory,
        page=store.path(PAGE),
        grid=store.path(GRID),
        rows=rows,
        computed=driver.computed,
        reused=driver.reused,
        estimates=summarise(rows),
        failures=failures(rows),
        column=column,
        effects=perturbation_effects(rows, request.perturbed, column),
        stopped=driver.stopped,
        notes=notes,
    )


def write_pages(store: RunStore) -> None:
    """Write ``grid.png`` and ``index.html`` of a comparison."""
    from guidelens.report.grid import draw_grid
    from guidelens.report.page import render_page

    everything = ordered(store.config or {}, store.rows.values())
    store.write(GRID, png_bytes(draw_grid(everything, store.load_image)))
    store.write(PAGE, render_page(store.directory))


def _component_cache(parts: Components, device: str) -> ComponentCache:
    """Return a cache that holds the components of a request, which may be objects without a spelling."""
    built: dict[tuple[str, str], Any] = {
        ("generator", parts.generator.name): parts.generator.component,
        ("guidance", parts.guidance.name): parts.guidance.component,
        **{("metric", item.name): item.metric for item in parts.metrics},
    }
    plugins = {
        ("generator", parts.generator.name): parts.generator.plugin,
        ("guidance", parts.guidance.name): parts.guidance.plugin,
    }
    return ComponentCache(
        lambda kind, name: built[kind, name],
        device=device,
        versions=lambda kind, name: plugins[kind, name],
    )


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


def _records(clean: Sequence[Prompt], forms: Sequence[Perturbed]) -> tuple[dict[str, Any], ...]:
    """Return, for ``config.json``, how each perturbed prompt came about."""
    targets = {prompt.text: prompt.target for prompt in clean}
    return tuple(
        {
            "text": form.text,
            "reference": targets[form.clean],
            "clean": form.clean,
            "perturbation": form.spec,
            "edits": form.edits,
        }
        for form in forms
        if form.changed
    )
