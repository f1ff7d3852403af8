"""``guidelens generate``: draw one picture, optionally with an animation and saliency maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import console
from .completion import complete_component
from .options import SectionedCommand, Setup, get_manager, setup_options
from .paths import UserPath
from .prompt_options import DRAWING
from .sections import option

if TYPE_CHECKING:
    from guidelens.runs.single import Drawing

_EPILOG = """\b
Examples:
  guidelens generate "two small green triangles" --schedule shift --seed 0 --out x.png
  guidelens generate "a red circle" --schedule itc --out x.png --trajectory x.webp
  guidelens generate "a red circle" --schedule shift --out x.png --saliency where.png
"""


@click.command(cls=SectionedCommand, epilog=_EPILOG)
@click.argument("prompt")
@option(
    "--schedule",
    metavar="SPEC",
    shell_complete=complete_component("schedule"),
    required=True,
    section=DRAWING,
    help="Schedule over objectives: name or name:key=value,key=value.",
)
@option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    section=DRAWING,
    help="Seed of all the noise.",
)
@option(
    "--metric",
    "metrics",
    metavar="SPEC",
    shell_complete=complete_component("metric"),
    multiple=True,
    section=DRAWING,
    help="Metric that scores the picture. Repeatable.  [default: the metrics of the generator's plugin]",
)
@option(
    "--out",
    type=UserPath(path_type=Path, dir_okay=False),
    required=True,
    section=DRAWING,
    help="File of the picture (.png); an existing file is replaced.",
)
@option(
    "--trajectory",
    type=UserPath(path_type=Path, dir_okay=False),
    section=DRAWING,
    help="Also write an animation of the predicted x0 over the steps (.webp or .gif).  [default: not written]",
)
@option(
    "--saliency",
    type=UserPath(path_type=Path, dir_okay=False),
    section=DRAWING,
    help="Also write maps of the gradient of each objective at six steps (.png).  [default: not written]",
)
@setup_options
@click.pass_context
def generate(
    ctx: click.Context,
    prompt: str,
    schedule: str,
    seed: int,
    metrics: tuple[str, ...],
    out: Path,
    trajectory: Path | None,
    saliency: Path | None,
    setup: Setup,
) -> None:
    """Draw one prompt under one schedule.

    The command prints the scores of the picture, then its path.
    """
    from guidelens.errors import UsageError
    from guidelens.files import check_writable, write_file
    from guidelens.pictures import png_bytes
    from guidelens.report.saliency import labelled_strip
    from guidelens.report.trajectory import animation_format, encode_trajectory

    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the file name must end in .png")
    if saliency is not None and saliency.suffix.lower() != ".png":
        raise UsageError(f"--saliency {saliency}: the file name must end in .png")
    if saliency is not None and saliency.resolve() == out.resolve():
        raise UsageError(f"--saliency {saliency} is the same file as --out: choose another name")
    kind = animation_format(trajectory) if trajectory is not None else ""
    # Sampling may take minutes: check before it starts that the files can be written.
    for path in filter(None, (out, trajectory, saliency)):
        check_writable(path)
    drawing = _draw(
        ctx,
        prompt,
        schedule,
        seed,
        metrics,
        setup,
        keep_frames=trajectory is not None,
        keep_saliency=saliency is not None,
    )
    for note in drawing.notes:
        console.echo_line("warning", str(note))
    write_file(out, png_bytes(drawing.picture))
    if trajectory is not None:
        write_file(trajectory, encode_trajectory(drawing.frames, kind))
    if saliency is not None and drawing.telemetry is not None:
        write_file(saliency, png_bytes(labelled_strip(drawing.telemetry)))
    for column, value in drawing.scores.values.items():
        click.echo(f"{column}: {value:.2f}")
    click.echo(f"picture: {out}")
    if trajectory is not None:
        click.echo(f"trajectory: {trajectory}")
    if saliency is not None:
        click.echo(f"saliency: {saliency}")
    for metric, reason in drawing.scores.errors.items():
        console.echo_line("error", f"metric {metric} failed: {reason}")
    if drawing.scores.errors:
        ctx.exit(1)


def _draw(
    ctx: click.Context,
    prompt: str,
    schedule: str,
    seed: int,
    metrics: tuple[str, ...],
    setup: Setup,
    *,
    keep_frames: bool,
    keep_saliency: bool,
) -> Drawing:
    from guidelens.runs.single import draw

    from .progress import step_progress

    with step_progress(setup.sampling.number_of_steps) as on_step:
        return draw(
            prompt,
            schedule,
            seed=seed,
            sampling=setup.sampling,
            generator=setup.generator,
            guidance=setup.guidance,
            metrics=metrics or None,
            device=setup.device,
            plugins=get_manager(ctx),
            keep_frames=keep_frames,
            keep_saliency=keep_saliency,
            on_step=on_step,
        )
