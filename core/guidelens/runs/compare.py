"""Compare schedules on the same prompts and the same noise: plan the cells, compute what is missing, write
the page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt, Schedule
from guidelens.errors import UsageError
from guidelens.guarding import encode
from guidelens.pictures import png_bytes
from guidelens.prompts import Perturbed, perturb_prompts
from guidelens.runs.assemble import assemble
from guidelens.runs.config import as_prompts, parse_seeds
from guidelens.runs.drive import Driver, Progress, score_again, sort_rows
from guidelens.runs.execute import Group, InProcess, Workshop
from guidelens.runs.plan import all_cells, make_plan
from guidelens.runs.record import Request, merged_config
from guidelens.runs.resolve import Components, resolve_components
from guidelens.runs.scoring import failures
from guidelens.runs.store import COMPARISON, RunStore, read_config, refuse_foreign
from guidelens.stats import Estimate, perturbation_effects, summarise

if TYPE_CHECKING:
    from guidelens.guidance import GuidanceOptions
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
    stopped: bool = False
    """It was asked to stop before all was done; there is no page yet where no picture was finished."""


def compare(
    prompts: str | Iterable[str | Prompt] | None = None,
    *,
    out: str | Path,
    prompt_set: str | None = None,
    limit: int | None = None,
    perturbations: Sequence[str] = (),
    perturbation_seed: int = 0,
    schedules: Sequence[str | Schedule] | Mapping[str, Schedule] | None = None,
    seeds: int | str | Sequence[int] = 4,
    steps: int | str = 50,
    sampler: str = "ddpm",
    eta: float = 0.0,
    generator: str | Generator | None = None,
    guidance: str | GuidanceModel | None = None,
    metrics: Sequence[str | Metric] | None = None,
    options: GuidanceOptions | None = None,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | str = 16,
    plugins: PluginManager | None = None,
    command: str = "",
    component_arguments: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Comparison:
    """Draw every prompt under every schedule with every seed, score the pictures, and write the run to
    ``out``.

    Components are given by name (``"shapes"``, ``"blend:itc=0.5,cap=0.5"``) or as objects; None takes the
    default of the loaded plugins. Cells already in ``out`` are not computed again; a grid may grow from call
    to call, other settings are refused. Interrupt it at any moment: the same call goes on where it stopped.

    :param prompts: texts or prompts; None takes the prompt set.
    :param prompt_set: name of a registered prompt set, used where no prompts are given.
    :param limit: use only the first ``limit`` prompts.
    :param perturbations: draw each prompt perturbed as well, such as ``["typo:edits=1"]``
        (:func:`guidelens.prompts.perturb`); metrics compare with the clean prompt.
    :param perturbation_seed: of the perturbations.
    :param schedules: names or objects, or objects by the name they go by.
    :param seeds: a number of seeds (4: 0 to 3), a list such as ``"0,3,7-9"``, or the seeds.
    :param steps: a number of sampling steps, or a respacing such as ``"ddim25"``
        (:func:`~guidelens.diffusion.process.space_timesteps`).
    :param metrics: names or objects; None takes those of the plugin that offers the generator; ``()`` none.
    :param batch_size: pictures computed at once; ``auto``: as many as should fit into memory.
    :param command: recorded in ``config.json`` and shown on the page as the way to repeat the run.
    :param component_arguments: recorded likewise: options of ``guidelens generate`` that repeat a single
        cell.
    :param on_progress: called with the state after every step.
    :param on_note: called once with each (prompt, note) that the text encoder has to say, before sampling.
    :param should_stop: asked before every batch; True ends the run after the batch in flight.
    :raises UsageError: for a request that makes no sense, or a directory that holds something else.
    :raises GuidelensError: for a directory that cannot be written, or sampling that failed.
    """
    directory = Path(out)
    refuse_foreign(directory)
    old = read_config(directory, COMPARISON) if directory.is_dir() else None
    if batch_size == "auto" and old is not None:
        batch_size = old["batch_size"]  # batches of another size would round differently
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
    clean = _limited(as_prompts(parts.prompts), limit) if given is None else given
    everything, forms = perturb_prompts(clean, perturbations, perturbation_seed)
    chosen = as_prompts(everything)
    engine, settings = assemble(
        parts,
        steps=steps,
        sampler=sampler,
        eta=eta,
        options=options,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        prompt=chosen[0].text,
    )
    notes = _notes(parts.guidance.component, chosen)
    told = [*notes, *((form.clean, form.note) for form in forms if form.note)]
    request = Request(
        settings=settings,
        prompts=chosen,
        schedules=tuple(parts.schedules),
        seeds=seed_list,
        metrics=tuple(parts.metrics),
        device=str(engine.device),
        batch_size=int(engine.batch_size),
        plugin_versions=parts.versions,
        command=command,
        component_arguments=component_arguments,
        perturbed=_records(clean, forms),
        notes=tuple({"prompt": prompt, "note": note} for prompt, note in notes),
    )
    workshop = _workshop(parts, device)
    workshop.keep(settings, engine)
    with RunStore(directory) as store:
        for prompt, note in told:
            if on_note is not None:
                on_note(prompt, note)
        with notes_once(told if on_note is not None else ()):
            return _carry_out(store, request, engine.options, workshop, on_progress, should_stop)


def _carry_out(
    store: RunStore,
    request: Request,
    options: GuidanceOptions,
    workshop: Workshop,
    on_progress: Callable[[Progress], None] | None,
    should_stop: Callable[[], bool] | None,
) -> Comparison:
    """Carry out one request against one open store."""
    cells = all_cells(request.prompts, request.schedules, request.seeds, request.settings)
    group = Group(request.settings, options, cells)
    column = next((column for metric in request.metrics for column in metric.columns), "")
    driver = Driver(store, [group], column=column, on_progress=on_progress, should_stop=should_stop)
    size = request.batch_size
    # The plan is on disk before the first cell, so that a rerun finds it.
    config = merged_config(request, store.config)
    plan = make_plan(cells, config["batches"], store.rows.keys(), size)
    store.write_config({**config, "batches": plan.batches})
    names = tuple(metric.name for metric in request.metrics)
    driver.run(plan.todo, InProcess(workshop), metrics=names, tolerant=False)
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
    )


def write_pages(store: RunStore) -> None:
    """Write ``grid.png`` and ``index.html`` of a comparison."""
    from guidelens.report.grid import draw_grid
    from guidelens.report.page import render_page

    everything = ordered(store.config or {}, store.rows.values())
    store.write(GRID, png_bytes(draw_grid(everything, store.load_image)))
    store.write(PAGE, render_page(store.directory))


def _workshop(parts: Components, device: str) -> Workshop:
    """Return a workshop that holds the components of a request, which may be objects without a spelling."""
    built: dict[tuple[str, str], Any] = {
        ("generator", parts.generator.name): parts.generator.component,
        ("guidance", parts.guidance.name): parts.guidance.component,
        **{("metric", item.name): item.metric for item in parts.metrics},
    }
    return Workshop(lambda kind, name: built[kind, name], device=device)


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
    notes = encode(guidance, [prompt.text for prompt in prompts]).notes
    return [(prompt.text, line) for prompt, lines in zip(prompts, notes, strict=False) for line in lines]


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
