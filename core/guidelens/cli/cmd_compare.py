"""``guidelens compare``: draw prompts under several schedules, score the pictures and write a page."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guidelens.words import plural

from . import console
from .completion import complete_component
from .logs import LOG, print_logs, read_logs
from .options import SectionedCommand, Setup, get_manager, sweep_options
from .outputs import default_directory, json_option, open_option, open_page, print_json
from .paths import UserPath
from .prompt_options import DRAWING, PromptChoice, prompt_options
from .sections import option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from guidelens.comparison import Comparison
    from guidelens.contracts import Prompt
    from guidelens.plugins import PluginManager
    from guidelens.stats import Estimate

_EPILOG = """\b
Examples:
  guidelens compare "a red circle above a blue square" "two small green triangles" \\
      --schedule itc --schedule shift --seeds 4 --steps 50 --out runs/first
  guidelens compare "two small green triangles" --schedule none --schedule cap --scale 0.3,1,3 --open
  guidelens compare "a red circle" --steps 10,25,50 --dose matched
  guidelens compare --limit 20 --seeds 2 --out runs/built-in-prompts
  guidelens compare "a red circle" --schedule blend:itc=0.3,cap=0.7 --seeds 0,3,7-9 --out runs/blend

To resume an interrupted comparison, run the same command again. You can add prompts, seeds, schedules
and metrics to a directory later. Other settings need another directory. See docs/outputs.md.
"""


@click.command(cls=SectionedCommand, epilog=_EPILOG)
@prompt_options(limit=None)
@option(
    "--perturb",
    "perturbations",
    metavar="SPEC",
    multiple=True,
    section=DRAWING,
    help="Also draw a perturbed form of each prompt: typo:edits=2, homophone, case:to=title or order. Repeatable. "
    "See docs/prompts.md.  [default: none]",
)
@option(
    "--perturb-seed",
    "perturbation_seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    section=DRAWING,
    help="Seed of the perturbations.",
)
@option(
    "--schedule",
    "schedules",
    metavar="SPEC",
    shell_complete=complete_component("schedule"),
    multiple=True,
    section=DRAWING,
    help="Schedule over objectives: name or name:key=value,key=value. Repeatable.  "
    "[default: the default schedules of the plugins, else all schedules without required options]",
)
@option(
    "--seeds",
    metavar="N|LIST",
    default="4",
    show_default=True,
    section=DRAWING,
    help="Number of seeds (4 means 0 to 3), or a list such as 0,3,7-9. Write 7-7 for the seed 7 alone.",
)
@option(
    "--metric",
    "metrics",
    metavar="SPEC",
    shell_complete=complete_component("metric"),
    multiple=True,
    section=DRAWING,
    help="Metric that scores the pictures. Repeatable.  [default: the metrics of the generator's plugin]",
)
@option(
    "--out",
    type=UserPath(path_type=Path),
    section=DRAWING,
    help="Directory for pictures, results.jsonl, grid.png and the page index.html.  "
    "[default: below runs, named after the command]",
)
@option("--log", "logs", section=DRAWING, **LOG)
@json_option
@open_option("page")
@sweep_options
@click.pass_context
def compare(
    ctx: click.Context,
    chosen: PromptChoice,
    out: Path | None,
    logs: tuple[str, ...],
    as_json: bool,
    open_it: bool,
    setup: Setup,
    **grid: Any,
) -> None:
    """Draw prompts under several schedules and compare them.

    Each prompt is drawn under each schedule with each seed. Pictures of one prompt with the same seed start
    from the same noise. The command prints a table of scores (mean and 95 % interval over prompts), then the
    path of a page with all pictures. An option that is a number takes several, with commas between them
    (--scale 0,0.3,1,3 or --steps 10,25,50): then there is a run for each, and the page has a row of pictures for each.
    """
    from guidelens.comparison import PAGE

    from .interrupts import INTERRUPTED

    manager = get_manager(ctx)
    prompts = chosen.read(manager, manager.resolve("generator", setup.generator))
    words = _command_words(chosen.after_reading(prompts), grid, manager, setup)
    out = out or default_directory(prompts[0].text, words)
    command = shlex.join([*words[:2], "--out", str(out), *words[2:]])
    grid = {
        name: value or None if name in ("schedules", "metrics") else value for name, value in grid.items()
    }
    loggers = read_logs(logs, out)
    result = _compare(prompts, setup, out=out, plugins=manager, command=command, loggers=loggers, **grid)
    if result is None or any(part.stopped for part in result.values()):
        console.echo_line(
            "interrupted", f"finished pictures are in {out}; run the same command again to resume"
        )
        ctx.exit(INTERRUPTED)
    page = out / PAGE
    if as_json:
        print_json({"page": page, "comparisons": {label: _as_data(part) for label, part in result.items()}})
    else:
        for label, part in result.items():
            _print_result(part, label)
        print_logs(loggers)
        console.out().print(f"page: {page}", markup=False, soft_wrap=True)
    if open_it:
        open_page(page)
    failed = [failure for part in result.values() for failure in part.failures]
    pictures = sum(len(part.rows) for part in result.values())
    for metric, reason, count in failed:
        console.echo_line(
            "error", f"metric {metric} failed on {count} of {plural(pictures, 'picture')}: {reason}"
        )
    if failed:
        ctx.exit(1)


def _as_data(result: Comparison) -> dict[str, Any]:
    """Return a comparison as the data that ``--json`` prints."""
    return {
        "directory": result.directory,
        "pictures": len(result.rows),
        "drawn": result.computed,
        "estimates": {
            schedule: {column: asdict(estimate) for column, estimate in scores.items()}
            for schedule, scores in result.estimates.items()
        },
        "failures": result.failures,
    }


def _compare(prompts: list[Prompt], setup: Setup, **wanted: Any) -> dict[str, Comparison] | None:
    """Compute the comparisons, with progress on the terminal. Return them by label, or None after a second Ctrl-C.

    After a second Ctrl-C, finished batches are on disk, and the unfinished batch is not.
    """
    from guidelens.comparison import compare as run
    from guidelens.comparison import compare_sweep

    from .interrupts import PATIENCE, gentle_interrupts
    from .progress import comparison_progress

    try:
        with gentle_interrupts(PATIENCE) as should_stop, comparison_progress() as report:
            options = {
                "generator": setup.generator,
                "guidance": setup.guidance,
                "device": setup.device,
                "batch_size": setup.batch_size,
                "on_progress": report,
                "on_note": lambda note: console.echo_line("warning", str(note)),
                "should_stop": should_stop,
                **wanted,
            }
            if setup.swept:
                return compare_sweep(prompts, samplings=setup.samplings, **options).comparisons
            return {"": run(prompts, sampling=setup.sampling, **options)}
    except KeyboardInterrupt:
        return None


_GRID_FLAGS = {
    "perturbations": "--perturb",
    "perturbation_seed": "--perturb-seed",
    "schedules": "--schedule",
    "seeds": "--seeds",
    "metrics": "--metric",
}


def _command_words(
    chosen: PromptChoice, grid: dict[str, Any], manager: PluginManager, setup: Setup
) -> list[str]:
    """Return the command line that repeats the run, without ``--out``."""
    words = ["guidelens", "compare", *chosen.options()]
    for name, flag in _GRID_FLAGS.items():
        values = grid[name] if isinstance(grid[name], tuple) else (grid[name],)
        words += [word for value in values if value not in (0, "") for word in (flag, str(value))]
    words += [word for request in manager.requests() for word in ("-p", request)]
    words += setup.arguments()
    # Prompts come last, after "--", because a prompt may begin with a dash.
    return [*words, *(["--", *chosen.texts] if chosen.texts else [])]


COLUMNS_WITH_INTERVAL = 2
"""The largest number of printed columns that have intervals."""


def _print_result(result: Comparison, label: str) -> None:
    screen = console.out()
    if label:
        screen.print(f"{label}:", markup=False)
    if next(iter(result.estimates.values()), {}):
        table, legend = _fitting_table(result, screen)
        screen.print(table)
        screen.print(f"[{legend}]", style="dim", markup=False)
    if result.effects:
        screen.print(f"{result.column}, perturbed minus clean (the table above has both):", markup=False)
        for schedule, effects in result.effects.items():
            for spec, change in effects.items():
                interval = f" [{change.low:+.2f}, {change.high:+.2f}]" if change.has_interval else ""
                screen.print(f"  {schedule}  {spec}  {change.mean:+.2f}{interval} n={change.n}", markup=False)
    drawn = f"{result.computed} drawn" + (f", {result.reused} were there" if result.reused else "")
    screen.print(f"{plural(len(result.rows), 'picture')} ({drawn})", markup=False)


def _fitting_table(result: Comparison, screen: Console) -> tuple[Table, str]:
    """Return the fullest table that fits the screen, and its legend. Intervals go first, then the last columns."""
    total = len(next(iter(result.estimates.values())))
    unlimited = screen.options.update(max_width=1000)
    fuller = [(total, count) for count in range(COLUMNS_WITH_INTERVAL, 0, -1)]
    for shown, count in [*fuller, *((shown, 0) for shown in range(total, 0, -1))]:
        table = _table(result, shown, count)
        if screen.measure(table, options=unlimited).maximum <= screen.width:
            break
    legend = "95 % interval over prompts; n: pictures" if count else "means over pictures"
    more = f"{plural(total - shown, 'more column')} and " if shown < total else ""
    return table, f"{legend}; the page has {more}the intervals of all columns"


def _table(result: Comparison, shown: int, with_intervals: int) -> Table:
    """Return a row of scores per schedule: the first ``shown`` columns, the first ``with_intervals`` with intervals."""
    from rich.table import Table
    from rich.text import Text

    columns = list(next(iter(result.estimates.values())))[:shown]
    sizes = {e.n for scores in result.estimates.values() for e in scores.values()}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("schedule")
    for column in columns:
        table.add_column(column)
    if len(sizes) == 1:
        table.add_column("n", justify="right")
    for name, scores in result.estimates.items():
        cells = [
            _cell(scores[column], with_n=len(sizes) > 1, brief=place >= with_intervals)
            for place, column in enumerate(columns)
        ]
        table.add_row(Text(name), *cells, *([str(*sizes)] if len(sizes) == 1 else []))
    return table


def _cell(estimate: Estimate, *, with_n: bool, brief: bool) -> str:
    if not estimate.n:
        return "none"
    if brief:
        return f"{estimate.mean:.2f}"
    interval = f" \\[{estimate.low:.2f}, {estimate.high:.2f}]" if estimate.has_interval else ""
    return f"{estimate.mean:.2f}{interval}{f' n={estimate.n}' if with_n else ''}"
