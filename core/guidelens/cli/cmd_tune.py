"""``guidelens tune``: find the best scale of each objective, on prompts and seeds that no score uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from guidelens.errors import UsageError

from . import console
from .completion import complete_component
from .options import SectionedCommand, Setup, get_manager, setup_options
from .paths import UserPath
from .prompt_options import PromptChoice, prompt_options
from .sections import option

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager
    from guidelens.studies.tune import Search, Tuned

SEARCHING = "Search"
_EPILOG = """\b
Examples:
  guidelens tune --prompts prompts.txt --limit 16 --out tuning
  guidelens tune --objective itc --objective cap --factors 0.2,0.5,1,2,5 --search grid --out tuning
Then write include = "tuning/tuned.toml" at the top of a study file. See docs/studies.md.
"""


def _read_factors(_ctx: click.Context, _parameter: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--factors are numbers separated by commas, got {text!r}", setting="factors"
        ) from None


@click.command(cls=SectionedCommand, epilog=_EPILOG)
@prompt_options(limit=16)
@option(
    "--objective",
    "objectives",
    metavar="NAME",
    multiple=True,
    section=SEARCHING,
    help="Objective to tune. Repeatable.  [default: all of the guidance model]",
)
@option(
    "--factors",
    default="0.1,0.3,1,3,10",
    show_default=True,
    callback=_read_factors,
    metavar="X,X,...",
    section=SEARCHING,
    help="Candidates, as multiples of the present scale of each objective.",
)
@option(
    "--search",
    "method",
    type=click.Choice(["halving", "grid"]),
    default="halving",
    show_default=True,
    section=SEARCHING,
    help="halving: few prompts for all candidates, more for the better half of them, and so on. grid: all prompts for "
    "all candidates.",
)
@option(
    "--metric",
    "metrics",
    metavar="SPEC",
    multiple=True,
    shell_complete=complete_component("metric"),
    section=SEARCHING,
    help="Metric that scores the pictures. Repeatable.  [default: those of the generator's plugin]",
)
@option(
    "--column",
    metavar="NAME",
    section=SEARCHING,
    help="Column of a metric that decides.  [default: the first of the role alignment]",
)
@option(
    "--seeds",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    section=SEARCHING,
    help="Number of pictures of each prompt. Their seeds begin at 1000000000.",
)
@option(
    "--out",
    type=UserPath(path_type=Path, file_okay=False),
    required=True,
    section=SEARCHING,
    help="Folder for tuned.toml and the pictures of the search.",
)
@setup_options
@click.pass_context
def tune(
    ctx: click.Context,
    chosen: PromptChoice,
    objectives: tuple[str, ...],
    factors: tuple[float, ...],
    method: str,
    metrics: tuple[str, ...],
    column: str | None,
    seeds: int,
    out: Path,
    setup: Setup,
) -> None:
    """Search the best scale of each objective.

    Claims that compare objectives should compare each at its own best scale. The search draws every objective alone
    at several scales, and writes the best ones to tuned.toml, which a study file includes. The prompts and seeds of
    the search never enter the scores of that study. To resume, run the same command again.
    """
    from guidelens.studies.tune import tune as search_scales

    from .interrupts import INTERRUPTED, PATIENCE, gentle_interrupts
    from .progress import comparison_progress

    manager = get_manager(ctx)
    search = _search(manager, chosen, objectives, factors, method, metrics, column, seeds, setup)
    with gentle_interrupts(PATIENCE) as should_stop, comparison_progress() as report:
        found = search_scales(
            search,
            out=out,
            plugins=manager,
            device=setup.device,
            batch_size=setup.batch_size,
            on_progress=report,
            should_stop=should_stop,
        )
    if found.file is None:
        console.echo_line(
            "interrupted", f"finished pictures are in {out}; run the same command again to resume"
        )
        ctx.exit(INTERRUPTED)
    _print(found)


def _search(
    manager: PluginManager,
    chosen: PromptChoice,
    objectives: tuple[str, ...],
    factors: tuple[float, ...],
    method: str,
    metrics: tuple[str, ...],
    column: str | None,
    seeds: int,
    setup: Setup,
) -> Search:
    """Return the search that a command line requests."""
    from guidelens.guidance import check_objective, resolve_scales
    from guidelens.studies.tune import Search

    generator = manager.resolve("generator", setup.generator)
    prompts = chosen.read(manager, generator)
    asked = chosen.after_reading(prompts)
    guidance = manager.resolve("guidance", setup.guidance, beside=generator)
    model = guidance.build()
    for name in objectives:
        check_objective(name, model.objectives, "--objective")
    return Search(
        prompts=asked.texts or manager.resolve("prompts", asked.prompt_set, beside=generator).spec,
        count=len(prompts),
        objectives=objectives or tuple(sorted(model.objectives)),
        scales=resolve_scales(model, setup.sampling.objective_scales),
        generator=generator.spec,
        guidance=guidance.spec,
        sampling=setup.sampling,
        factors=factors,
        halving=method == "halving",
        seeds=seeds,
        column=column,
        metrics=metrics or None,
    )


def _print(found: Tuned) -> None:
    screen = console.out()
    for name, candidates in found.candidates.items():
        for each in candidates:
            mark = "  best" if each.scale == found.best[name] else ""
            screen.print(f"{name} {each.scale:g}: {found.column} {each}{mark}", markup=False)
    for note in found.notes:
        console.echo_line("warning", note)
    screen.print(f"written: {found.file}", markup=False, soft_wrap=True)
