"""Compare schedules on the same prompts and the same noise: compute the missing cells, then write the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt
from guidelens.errors import GuidelensError
from guidelens.pictures import open_picture, png_bytes
from guidelens.runs.compare import Perturbations, PlannedComparison, compute_comparison, plan_comparison
from guidelens.runs.config import as_prompts
from guidelens.runs.drive import Callbacks, Driver, Progress
from guidelens.runs.logs import Labelled, RunLogger
from guidelens.runs.notes import Note
from guidelens.runs.resolve import RunScope, resolve_components
from guidelens.runs.scoring import failures
from guidelens.runs.store import COMPARISON, RunStore, earlier_config
from guidelens.sampling import Sampling
from guidelens.schedules import ScheduleSpec
from guidelens.seeds import read_seeds
from guidelens.shown import column_of, data_frame, html_of, save_picture
from guidelens.stats import Estimate, perturbation_effects, summarise
from guidelens.words import plural

if TYPE_CHECKING:
    import pandas as pd

    from guidelens.plugins import PluginManager

GRID, PAGE = "grid.png", "index.html"


@dataclass(frozen=True)
class Comparison:
    """The result of :func:`compare`."""

    directory: Path
    page: Path
    grid: Path
    rows: list[dict[str, Any]]
    """The rows of the requested cells, prompts outermost, seeds innermost. Some are missing if it was stopped."""
    computed: int
    """Number of cells written by this call."""
    reused: int
    """Number of cells found on disk."""
    estimates: dict[str, dict[str, Estimate]]
    """Schedule -> metric column -> mean and interval over these rows."""
    failures: list[tuple[str, str, int]] = field(default_factory=list)
    """(metric, reason, number of cells) for each metric that failed on some cell."""
    column: str = ""
    """The first metric column; empty without metrics."""
    effects: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    """Schedule -> perturbation -> mean change of ``column`` from the clean prompt, paired."""
    notes: tuple[Note, ...] = ()
    """What the reader should know about prompts and settings."""
    stopped: bool = False
    """Whether ``should_stop`` ended the comparison. The page exists only if some picture was finished."""

    def save(self, path: str | Path) -> Path:
        """Write the grid of pictures as PNG, and return the path.

        :raises GuidelensError: if no picture is finished, the name does not end in .png, or the file cannot be written.
        """
        png = self._repr_png_()
        if png is None:
            raise GuidelensError(f"{self.directory} has no finished picture to save")
        return save_picture(open_picture(self.grid), path)

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per picture of the directory, with the columns of ``guidelens study export``.

        :raises GuidelensError: if pandas is not installed.
        """
        from guidelens.studies.results import load_study

        return load_study(self.directory).to_pandas()

    def _repr_png_(self) -> bytes | None:
        return self.grid.read_bytes() if self.grid.is_file() else None

    def _repr_html_(self) -> str:
        facts = {
            name: ", ".join(f"{column} {found.mean:.3g}" for column, found in columns.items() if found.n)
            for name, columns in self.estimates.items()
        }
        return html_of(self._repr_png_(), f"{plural(len(self.rows), 'picture')} in {self.directory}", facts)


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
    loggers: Sequence[RunLogger] = (),
) -> Comparison:
    """Draw every prompt under every schedule with every seed, score the pictures and write a page to ``out``.

    Components are names (``"shapes"``, ``"blend:itc=0.5,cap=0.5"``) or objects. None takes the default of the
    loaded plugins. Cells that are already in ``out`` are not computed again. So you can repeat an interrupted call to
    continue it, and add prompts, schedules, seeds and metrics. Other settings need another directory.

    :param prompts: texts or prompts; None takes the default prompt set.
    :param schedules: one or several names or objects, or a mapping from names to objects.
    :param seeds: the number of seeds (4 means 0 to 3), a list such as ``"0,3,7-9"``, or the seeds themselves.
    :param sampling: how pictures are drawn; None: :class:`~guidelens.sampling.Sampling` with its defaults.
    :param metrics: None takes those of the plugin that offers the generator; ``()`` takes none.
    :param perturbations: also draw each prompt perturbed, such as ``["typo:edits=1"]``.
    :param batch_size: number of pictures computed at once; ``auto``: as many as should fit into memory.
    :param command: the command line, recorded in ``config.json`` and shown on the page.
    :param on_progress: see :class:`~guidelens.runs.drive.Callbacks`.
    :param on_note: see :class:`~guidelens.runs.drive.Callbacks`.
    :param should_stop: see :class:`~guidelens.runs.drive.Callbacks`.
    :param loggers: see :mod:`guidelens.loggers`.
    :raises UsageError: for an invalid request, or a directory with other contents.
    :raises GuidelensError: if the directory cannot be written, or sampling fails.
    """
    earlier = earlier_config(Path(out), COMPARISON)
    if batch_size == "auto" and earlier is not None:
        batch_size = earlier["batch_size"]  # another batch size would round differently
    seed_list = read_seeds(seeds)
    given = None if prompts is None else as_prompts(prompts)
    sampling = sampling or Sampling()
    parts = resolve_components(
        plugins,
        prompts=given,
        generator=generator,
        guidance=guidance,
        schedules=schedules,
        metrics=metrics,
        scope=_scope(len(seed_list) * (1 + len(perturbations)), sampling, device, earlier),
    )
    forms = Perturbations(perturbations, perturbation_seed)
    planned = plan_comparison(parts, sampling, seed_list, forms, device, batch_size, command)
    return _computed(Path(out), planned, Callbacks(on_progress, on_note, should_stop, loggers))


def _scope(copies: int, sampling: Sampling, device: str, earlier: Mapping[str, Any] | None) -> RunScope:
    """Return what a generator may know of the run.

    :param copies: number of pictures of each prompt.
    :param earlier: ``config.json`` of the directory, if it holds a comparison.
    """
    recorded = None if earlier is None else earlier["settings"]["generator"]["name"]
    return RunScope(copies=copies, steps=sampling.number_of_steps, device=device, recorded=recorded)


def _computed(out: Path, planned: PlannedComparison, callbacks: Callbacks) -> Comparison:
    """Compute the missing cells, write the pages, and return the result."""
    with RunStore(out) as store:
        driver = compute_comparison(store, planned, callbacks)
        if store.rows:
            write_pages(store)
        return _result(store, planned, driver)


@dataclass(frozen=True)
class Sweep:
    """The result of :func:`compare_sweep`: a comparison for each value, and one page with all of them."""

    page: Path
    comparisons: dict[str, Comparison]
    """The comparisons by label, such as ``scale 0.3``. Those after a stopped one are missing."""

    @property
    def stopped(self) -> bool:
        """Whether ``should_stop`` ended the sweep. The page exists only if each value has at least one picture."""
        return any(comparison.stopped for comparison in self.comparisons.values())

    def save(self, path: str | Path) -> Path:
        """Write the grids of all values under each other as PNG, and return the path.

        :raises GuidelensError: if no picture is finished, the name does not end in .png, or the file cannot be written.
        """
        grids = [open_picture(each.grid) for each in self.comparisons.values() if each.grid.is_file()]
        if not grids:
            raise GuidelensError(f"{self.page.parent} has no finished picture to save")
        return save_picture(column_of(grids), path)

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows of all comparisons, with their label in the column ``value``.

        :raises GuidelensError: if pandas is not installed.
        """
        frames = {label: comparison.to_pandas() for label, comparison in self.comparisons.items()}
        return data_frame(
            {"value": label, **row} for label, frame in frames.items() for row in frame.to_dict("records")
        )

    def _repr_html_(self) -> str:
        parts = "".join(f"<h3>{escape(k)}</h3>{c._repr_html_()}" for k, c in self.comparisons.items())
        return f"<div>{parts}</div>"


def compare_sweep(
    prompts: str | Iterable[str | Prompt] | None = None,
    *,
    out: str | Path,
    samplings: Mapping[str, Sampling],
    loggers: Sequence[RunLogger] = (),
    **options: Any,
) -> Sweep:
    """Compare under several samplings, each in its own directory below ``out``, and write one page with all.

    :param samplings: the samplings by label, such as ``scale 0.3``. The page has a row of pictures for each.
    :param loggers: see :mod:`guidelens.loggers`. Each value has its own series.
    :param options: see :func:`compare`.
    :raises UsageError, GuidelensError: see :func:`compare`.
    """
    from guidelens.files import write_file
    from guidelens.report.page import render_sweep

    directory = Path(out)
    found: dict[str, Comparison] = {}
    for label, sampling in samplings.items():
        part = directory / label.replace(", ", "_").replace(" ", "-")
        logs = [Labelled(logger, label) for logger in loggers]
        found[label] = compare(prompts, out=part, sampling=sampling, loggers=logs, **options)
        if found[label].stopped:
            break
    page = directory / PAGE
    if all(label in found and found[label].rows for label in samplings):
        runs = {label: comparison.directory for label, comparison in found.items()}
        write_file(page, render_sweep(runs, directory).encode())
    return Sweep(page, found)


def write_pages(store: RunStore) -> None:
    """Write ``grid.png`` and ``index.html`` of a comparison."""
    from guidelens.report.grid import draw_grid
    from guidelens.report.page import render_page

    everything = ordered(store.config or {}, store.rows.values())
    store.write(GRID, png_bytes(draw_grid(everything, store.load_image)))
    store.write(PAGE, render_page(store.directory))


def ordered(config: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort rows by prompt, then schedule, then seed, each in the order of the configuration."""
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


def _result(store: RunStore, planned: PlannedComparison, driver: Driver) -> Comparison:
    rows = [store.rows[key] for key in driver.cells if key in store.rows]
    return Comparison(
        directory=store.directory,
        page=store.path(PAGE),
        grid=store.path(GRID),
        rows=rows,
        computed=driver.computed,
        reused=driver.reused,
        estimates=summarise(rows),
        failures=failures(rows),
        column=driver.column,
        effects=perturbation_effects(rows, planned.request.perturbed, driver.column),
        stopped=driver.stopped,
        notes=planned.notes,
    )
