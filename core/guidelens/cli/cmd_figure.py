"""``guidelens figure``: figures for papers and talks from a comparison or a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from guidelens.figures.style import FORMATS, LAYOUTS, WIDTHS

from .options import SectionedCommand, get_manager
from .paths import UserPath
from .sections import option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guidelens.claims.evaluate import Verdict

WHAT, FILE = "What to show", "The file"

_EPILOG = """\b
Examples:
  guidelens figure runs/findings --layout forest --width text
  guidelens figure demo --layout grid --schedule itc --schedule cap --rows 3 --format png
  guidelens figure runs/findings --layout table --out paper/verdicts.tex
"""


@click.command(cls=SectionedCommand, epilog=_EPILOG)
@click.argument("directory", metavar="DIR", type=UserPath(path_type=Path))
@option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default="paper",
    show_default=True,
    section=WHAT,
    help="paper: pictures by what the study varies; grid: prompts x schedules; forest: questions; curves: scores and "
    "cosines; table: verdicts in LaTeX; animation: schedules side by side.",
)
@option("--grid", section=WHAT, help="Show only cells of this grid of the study.  [default: all grids]")
@option(
    "--prompt",
    "prompts",
    multiple=True,
    section=WHAT,
    help="Prompt to show. Repeatable.  [default: the first ones]",
)
@option(
    "--schedule",
    "schedules",
    multiple=True,
    section=WHAT,
    help="Schedule to show. Repeatable.  [default: all]",
)
@option(
    "--rows",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    section=WHAT,
    help="Number of prompts of a grid or an animation.",
)
@option(
    "--seed",
    type=click.IntRange(min=0),
    section=WHAT,
    help="Seed of the pictures.  [default: the smallest]",
)
@option(
    "--format",
    "kind",
    type=click.Choice(tuple(dict.fromkeys(name for names in FORMATS.values() for name in names))),
    section=FILE,
    help="File format: pdf, svg or png; tex for a table; webp or gif for an animation.  "
    "[default: pdf, tex or webp]",
)
@option(
    "--width",
    type=click.Choice(tuple(WIDTHS)),
    default="column",
    show_default=True,
    section=FILE,
    help="Width of one column (3.25 in) or of the text (6.75 in).",
)
@option(
    "--out",
    type=UserPath(path_type=Path, dir_okay=False),
    section=FILE,
    help="The file.  [default: DIR/figures/LAYOUT.FORMAT]",
)
@click.pass_context
def figure(
    ctx: click.Context,
    directory: Path,
    layout: str,
    grid: str | None,
    prompts: tuple[str, ...],
    schedules: tuple[str, ...],
    rows: int,
    seed: int | None,
    kind: str | None,
    width: str,
    out: Path | None,
) -> None:
    """Make a figure from the comparison or study in DIR.

    Vector files have their fonts embedded, and the same results give the same
    file. Needs matplotlib, except for tables and animations: the extra figures.
    """
    from guidelens.claims.evaluate import evaluate
    from guidelens.figures.animation import animate
    from guidelens.figures.latex import verdict_table
    from guidelens.figures.layouts import draw
    from guidelens.figures.style import save
    from guidelens.files import write_file
    from guidelens.studies.results import load_study

    from .cmd_study_report import claims_of

    path = _target(directory, layout, kind, out)
    study = load_study(directory)

    def verdicts() -> Sequence[Verdict]:
        return evaluate(study, claims_of(get_manager(ctx), study))

    if layout == "table":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, verdict_table(verdicts()).encode())
    elif layout == "animation":
        animate(study, path, prompts=prompts, schedules=schedules, rows=rows, seed=seed)
    else:
        drawn = draw(
            layout,
            study,
            verdicts,
            width=WIDTHS[width],
            prompts=prompts,
            schedules=schedules,
            grid=grid or "",
            rows=rows,
            seed=seed,
        )
        save(drawn, path)
    click.echo(path)


def _target(directory: Path, layout: str, kind: str | None, out: Path | None) -> Path:
    """Return the file to write.

    :raises UsageError: if the layout does not support the format, or ``out`` has another format.
    """
    from guidelens.errors import UsageError

    known = FORMATS[layout]
    suffix = out.suffix.lower().removeprefix(".") if out is not None else ""
    chosen = kind or suffix or known[0]
    if chosen not in known:
        raise UsageError(
            f"the layout {layout} has no format {chosen!r}; choose {', '.join(known)}", setting="format"
        )
    if out is not None and suffix != chosen:
        raise UsageError(f"--out {out}: the file name must end in .{chosen}", setting="out")
    return out or directory / "figures" / f"{layout}.{chosen}"
