"""``guidelens compare``: draw prompts under several schedules, score the pictures and write a page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guidelens.words import plural

from . import console
from .completion import complete_component
from .options import SectionedCommand, SectionedOption, Setup, get_manager, setup_options
from .paths import UserPath

if TYPE_CHECKING:
    from guidelens.contracts import Prompt
    from guidelens.plugins import PluginManager
    from guidelens.runs.compare import Comparison
    from guidelens.stats import Estimate

_GRID = "What to compare"

_EPILOG = """\b
Examples:
  guidelens compare "a red circle above a blue square" "two small green triangles" \\
      --schedule itc --schedule shift --seeds 4 --steps 50 --out runs/first
  guidelens compare --limit 20 --seeds 2 --out runs/built-in-prompts
  guidelens compare "a red circle" --schedule blend:itc=0.3,cap=0.7 --seeds 0,3,7-9 --out runs/blend

To resume an interrupted comparison, run the same command again. You can add prompts, seeds, schedules
and metrics to a directory later. Other settings need another directory. See docs/outputs.md.
"""


@click.command(cls=SectionedCommand, epilog=_EPILOG)
@click.argument("prompts", metavar="[PROMPT]...", nargs=-1)
@click.option(
    "--prompts",
    "prompt_set",
    metavar="SET",
    shell_complete=complete_component("prompts"),
    cls=SectionedOption,
    section=_GRID,
    help="Prompt set or file of prompts, used if no PROMPT is given; - reads standard input. See docs/prompts.md.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    cls=SectionedOption,
    section=_GRID,
    help="Maximum number of prompts.  [default: all]",
)
@click.option(
    "--perturb",
    "perturbations",
    metavar="SPEC",
    multiple=True,
    cls=SectionedOption,
    section=_GRID,
    help="Also draw a perturbed form of each prompt: typo:edits=2, homophone, case:to=title or order. Repeatable. "
    "See docs/prompts.md.  [default: none]",
)
@click.option(
    "--perturb-seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    cls=SectionedOption,
    section=_GRID,
    help="Seed of the perturbations.",
)
@click.option(
    "--schedule",
    "schedules",
    metavar="SPEC",
    shell_complete=complete_component("schedule"),
    multiple=True,
    cls=SectionedOption,
    section=_GRID,
    help="Schedule over objectives: name or name:key=value,key=value. Repeatable.  "
    "[default: the default schedules of the plugins, else all schedules without required options]",
)
@click.option(
    "--seeds",
    metavar="N|LIST",
    default="4",
    show_default=True,
    cls=SectionedOption,
    section=_GRID,
    help="Number of seeds (4 means 0 to 3), or a list such as 0,3,7-9. Write 7-7 for the seed 7 alone.",
)
@click.option(
    "--metric",
    "metrics",
    metavar="SPEC",
    shell_complete=complete_component("metric"),
    multiple=True,
    cls=SectionedOption,
    section=_GRID,
    help="Metric that scores the pictures. Repeatable.  [default: the metrics of the generator's plugin]",
)
@click.option(
    "--out",
    type=UserPath(path_type=Path),
    required=True,
    cls=SectionedOption,
    section=_GRID,
    help="Directory for pictures, results.jsonl, grid.png and the page index.html.",
)
@setup_options
@click.pass_context
def compare(
    ctx: click.Context,
    prompts: tuple[str, ...],
    prompt_set: str | None,
    limit: int | None,
    perturbations: tuple[str, ...],
    perturb_seed: int,
    schedules: tuple[str, ...],
    seeds: str,
    metrics: tuple[str, ...],
    out: Path,
    setup: Setup,
) -> None:
    """Draw prompts under several schedules and compare them.

    Each prompt is drawn under each schedule with each seed. Pictures of one prompt with the same seed start
    from the same noise. The command prints a table of scores (mean and 95 % interval over prompts), then the
    path of a page with all pictures.
    """
    from guidelens.errors import UsageError
    from guidelens.prompts import read_prompts
    from guidelens.runs.compare import compare as run
    from guidelens.text import STDIN

    if prompts and prompt_set is not None:
        raise UsageError(f"give either PROMPT or --prompts {prompt_set}, not both", setting="prompts")
    piped = read_prompts(STDIN) if prompt_set == STDIN else None
    if piped is not None:
        prompts, prompt_set = tuple(prompt.text for prompt in piped), None
    manager = get_manager(ctx)
    chosen: list[str | Prompt] = [*(piped or prompts or manager.build("prompts", prompt_set))]
    from .interrupts import INTERRUPTED, PATIENCE, gentle_interrupts
    from .progress import comparison_progress

    words = _grid_words(prompt_set, limit, perturbations, perturb_seed, schedules, seeds, metrics)
    try:
        with gentle_interrupts(PATIENCE) as should_stop, comparison_progress() as report:
            result = run(
                chosen[:limit],
                out=out,
                schedules=schedules or None,
                seeds=seeds,
                sampling=setup.sampling,
                generator=setup.generator,
                guidance=setup.guidance,
                metrics=metrics or None,
                perturbations=perturbations,
                perturbation_seed=perturb_seed,
                device=setup.device,
                batch_size=setup.batch_size,
                plugins=manager,
                command=_command(words, manager, setup, out, prompts),
                on_progress=report,
                on_note=lambda note: console.echo_line("warning", str(note)),
                should_stop=should_stop,
            )
    except KeyboardInterrupt:
        # Finished batches are on disk. The unfinished batch is dropped; none of it was written.
        result = None
    if result is None or result.stopped:
        console.echo_line(
            "interrupted", f"finished pictures are in {out}; run the same command again to resume"
        )
        ctx.exit(INTERRUPTED)
    _print_result(result)
    for metric, reason, count in result.failures:
        console.echo_line(
            "error", f"metric {metric} failed on {count} of {plural(len(result.rows), 'picture')}: {reason}"
        )
    if result.failures:
        ctx.exit(1)


def _grid_words(
    prompt_set: str | None,
    limit: int | None,
    perturbations: Sequence[str],
    perturb_seed: int,
    schedules: Sequence[str],
    seeds: str,
    metrics: Sequence[str],
) -> list[str]:
    """Return the command-line options of this grid."""
    words = ["--prompts", prompt_set] if prompt_set is not None else []
    words += ["--limit", str(limit)] if limit is not None else []
    words += [word for spec in perturbations for word in ("--perturb", spec)]
    words += ["--perturb-seed", str(perturb_seed)] if perturbations and perturb_seed else []
    words += [word for schedule in schedules for word in ("--schedule", schedule)]
    return [*words, "--seeds", seeds, *(word for metric in metrics for word in ("--metric", metric))]


def _command(
    grid: Sequence[str], manager: PluginManager, setup: Setup, out: Path, prompts: Sequence[str]
) -> str:
    """Return the command line that repeats the run."""
    plugins = [word for request in manager.requests() for word in ("-p", request)]
    words = ["guidelens", "compare", *grid, *plugins, *setup.arguments(), "--out", str(out)]
    # Prompts last, after "--": one may begin with a dash.
    return shlex.join([*words, *(["--", *prompts] if prompts else [])])


COLUMNS_WITH_INTERVAL = 2
"""Number of columns of the printed table with intervals. More would not fit a terminal."""


def _print_result(result: Comparison) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console.out()
    columns = list(next(iter(result.estimates.values()), {}))
    if columns:
        sizes = {(e.n) for scores in result.estimates.values() for e in scores.values()}
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("schedule")
        for column in columns:
            table.add_column(column)
        if len(sizes) == 1:
            table.add_column("n", justify="right")
        for name, scores in result.estimates.items():
            cells = [
                _cell(scores[column], with_n=len(sizes) > 1, brief=place >= COLUMNS_WITH_INTERVAL)
                for place, column in enumerate(columns)
            ]
            table.add_row(Text(name), *cells, *([str(*sizes)] if len(sizes) == 1 else []))
        screen.print(table)
        screen.print(
            "[95 % interval over prompts; n: pictures; the page has the intervals of all columns]",
            style="dim",
            markup=False,
        )
    if result.effects:
        screen.print(f"{result.column}, perturbed minus clean (the table above has both):", markup=False)
        for schedule, effects in result.effects.items():
            for spec, change in effects.items():
                interval = f" [{change.low:+.2f}, {change.high:+.2f}]" if change.has_interval else ""
                screen.print(f"  {schedule}  {spec}  {change.mean:+.2f}{interval} n={change.n}", markup=False)
    drawn = f"{result.computed} drawn" + (f", {result.reused} were there" if result.reused else "")
    screen.print(f"{plural(len(result.rows), 'picture')} ({drawn})", markup=False)
    screen.print(f"page: {result.page}", markup=False, soft_wrap=True)


def _cell(estimate: Estimate, *, with_n: bool, brief: bool) -> str:
    if not estimate.n:
        return "none"
    if brief:
        return f"{estimate.mean:.2f}"
    interval = f" \\[{estimate.low:.2f}, {estimate.high:.2f}]" if estimate.has_interval else ""
    return f"{estimate.mean:.2f}{interval}{f' n={estimate.n}' if with_n else ''}"
