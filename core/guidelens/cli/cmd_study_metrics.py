"""``guidelens study matrix`` and ``distribution``: compare judges, and compare pictures with a reference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guidelens.errors import UsageError
from guidelens.metrics.judge import AT
from guidelens.words import plural

from . import console
from .options import get_manager
from .paths import UserPath

if TYPE_CHECKING:
    from PIL.Image import Image

    from guidelens.metrics.matrix import Entry, Matrix
    from guidelens.plugins import PluginManager
    from guidelens.stats import Estimate
    from guidelens.studies.results import StudyResults

UNGUIDED = "unguided"
FIRST_SEED = 1_000_000
"""The seed of the first unguided picture. It is far from the seeds of studies, so that no noise is shared."""


@click.command("matrix")
@click.argument("directory", metavar="DIR", type=UserPath(path_type=Path))
@click.option("--grid", help="Use only cells of this grid.  [default: all grids]")
@click.option(
    "--judge",
    "judges",
    metavar="COLUMN",
    multiple=True,
    help="Metric column that judges. Repeatable.  "
    "[default: the columns OBJECTIVE@MODEL, and the first column of each other metric]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def matrix_command(directory: Path, grid: str | None, judges: tuple[str, ...], as_json: bool) -> None:
    """Compare how judges score the pictures of each guide in DIR.

    DIR is a study or a comparison. Each row is a guide and each column a judge. Scores are standardised: 0 is
    the mean of all guides on the same prompt and noise. Below the table, the inflation is how much higher a
    guide's own model scores its pictures than independent judges do. See docs/metrics.md.
    """
    from guidelens.metrics.matrix import judge_matrix
    from guidelens.studies.results import load_study

    study = load_study(directory)
    study.check_scores()
    matrix = judge_matrix(study, grid=grid, judges=judges or None)
    if as_json:
        click.echo(json.dumps(matrix.as_dict(), indent=2, ensure_ascii=False))
        return
    _print_matrix(matrix)


def _print_matrix(matrix: Matrix) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console.out()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    short = _short_names([*(guide.name for guide in matrix.guides), *matrix.judges])
    for title in ("guide", *(short[judge] for judge in matrix.judges)):
        table.add_column(Text(title), justify="left" if title == "guide" else "right", overflow="fold")
    for guide in matrix.guides:
        row = [_score(matrix.entries[guide.name, judge]) for judge in matrix.judges]
        table.add_row(Text(short[guide.name]), *map(Text, row))
    screen.print(table)
    for model, number in _models(short).items():
        console.print_out(f"{number}: {model}")
    console.print_out("** judge and guide are the same objective, * the same model")
    console.print_out("")
    console.print_out("inflation: the judge's score minus the mean score of the independent judges")
    for guide in matrix.guides:
        for judge in matrix.judges:
            entry = matrix.entries[guide.name, judge]
            if entry.own == "objective" and entry.inflation is not None:
                console.print_out(f"  {guide.name} judged by {judge}: {_interval(entry.inflation)}")
    words = {
        "objective": "all judged by the objective that guided",
        "model": "by its model's other objectives",
    }
    for own, found in matrix.inflation.items():
        console.print_out(f"  {words[own]}: {_interval(found)}")
    if not matrix.inflation:
        console.print_out("  none: it needs a judge that is the guide and a judge that is independent of it")
    console.print_out(
        f"{plural(matrix.pairs, 'pair')} of prompt and noise, {plural(matrix.prompts, 'prompt')}; 95 % intervals"
    )
    if matrix.left_out:
        console.print_out(f"left out, because all scores are equal: {', '.join(matrix.left_out)}")


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Replace the models in ``objective@model`` by numbers, so that a wide table fits the terminal."""
    models = {
        model: str(i)
        for i, model in enumerate(dict.fromkeys(_model(name) for name in names if AT in name), 1)
    }
    return {
        name: f"{name.partition(AT)[0]}{AT}{models[_model(name)]}" if AT in name else name for name in names
    }


def _models(short: Mapping[str, str]) -> dict[str, str]:
    return {_model(name): _model(brief) for name, brief in short.items() if AT in name}


def _model(name: str) -> str:
    return name.partition(AT)[2]


def _score(entry: Entry) -> str:
    return f"{entry.score.mean:+.2f}" + {"objective": "**", "model": "* ", "": "  "}[entry.own]


def _interval(found: Estimate) -> str:
    return f"{found.mean:+.2f}" + (f" [{found.low:+.2f}, {found.high:+.2f}]" if found.has_interval else "")


@click.command("distribution")
@click.argument("directory", metavar="DIR", type=UserPath(path_type=Path))
@click.option(
    "--features",
    required=True,
    metavar="SPEC",
    help="Guidance model whose image features are compared, or FILE.py:NAME, a function that returns an extractor.",
)
@click.option(
    "--reference",
    default=UNGUIDED,
    show_default=True,
    metavar="FOLDER|unguided",
    help="Folder of reference pictures; unguided: pictures that the study's generator draws without guidance.",
)
@click.option(
    "--count", type=click.IntRange(min=4), default=256, show_default=True, help="Number of unguided pictures."
)
@click.option("--grid", help="Use only cells of this grid.  [default: all grids]")
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Column that separates conditions. Repeatable.  [default: schedule]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def distribution_command(
    ctx: click.Context,
    directory: Path,
    features: str,
    reference: str,
    count: int,
    grid: str | None,
    by: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Print FID, KID and CMMD of the pictures in DIR against a reference.

    Lower values mean that the pictures are closer to the reference. Pictures of few prompts also differ from a
    broad reference in content, not only in realism. See docs/metrics.md.
    """
    from guidelens.metrics.distribution import features_of, load_extractor, open_pictures, study_distances
    from guidelens.studies.results import load_study

    study = load_study(directory)
    manager = get_manager(ctx)
    extractor = load_extractor(features, manager, device)
    if reference == UNGUIDED:
        pictures: Iterable[Image] = _unguided(study, manager, grid, count, device)
    else:
        pictures = open_pictures(Path(reference))  # read one by one: photographs are large
    expected = features_of(pictures, extractor)
    found = study_distances(study, extractor, expected, grid=grid, by=by or ("schedule",))
    if as_json:
        names = by or ("schedule",)
        listed = [
            {**dict(zip(names, map(str, group), strict=True)), **vars(distance), "note": distance.note}
            for group, distance in found.items()
        ]
        click.echo(json.dumps(listed, indent=2))
        return
    width = max(len(", ".join(map(str, group))) for group in found)
    for group, distance in found.items():
        console.print_out(
            f"{', '.join(map(str, group)):<{width}}  FID {distance.fid:.4g}  KID {distance.kid:.3g} "
            f"(spread {distance.kid_spread:.1g})  CMMD {distance.cmmd:.3g}  {plural(distance.n, 'picture')}"
        )
    console.print_out(f"reference: {reference}, {plural(len(expected), 'picture')}; features: {features}")
    for note in dict.fromkeys(distance.note for distance in found.values() if distance.note):
        console.echo_line("warning", note)
    if len({distance.n for distance in found.values()}) > 1:
        console.echo_line("warning", "the numbers of pictures differ: compare the KIDs, not the FIDs")


def _unguided(
    study: StudyResults, manager: PluginManager, grid: str | None, count: int, device: str
) -> list[Image]:
    from guidelens.metrics.distribution import unguided_pictures
    from guidelens.sampling import Sampling, join_steps

    cells = [cell for cell in study.cells if grid in (None, cell["grid"])]
    settings = {
        (cell["generator"], join_steps(cell["steps"], cell["respacing"]), cell["sampler"], cell["eta"])
        for cell in cells
    }
    if len(settings) != 1:
        raise UsageError(
            f"the cells have {len(settings)} generators, samplers or numbers of steps; choose a --grid with one, or "
            "a folder as --reference"
        )
    generator, steps, sampler, eta = settings.pop()
    sampling = Sampling(steps=steps, sampler=sampler, eta=eta)
    return unguided_pictures(
        manager.build("generator", generator),
        range(FIRST_SEED, FIRST_SEED + count),
        sampling=sampling,
        device=device,
    )
