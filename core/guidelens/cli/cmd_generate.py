"""``guidelens generate``: draw one picture, optionally with an animation and saliency maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import console
from .completion import complete_component
from .options import SectionedCommand, Setup, get_manager, setup_options
from .outputs import json_option, name_of, open_option, open_page, print_json
from .paths import UserPath
from .prompt_options import DRAWING
from .sections import option

if TYPE_CHECKING:
    from guidelens.runs.single import Drawing

_EPILOG = """\b
Examples:
  guidelens generate "a red circle above a blue square" --open
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
    section=DRAWING,
    help="Schedule over objectives: name or name:key=value,key=value.  [default: the first one that guides]",
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
    section=DRAWING,
    help="File of the picture (.png); an existing file is replaced.  [default: the prompt as a file name]",
)
@option(
    "--size",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    section=DRAWING,
    help="Also write the picture enlarged to about this many pixels a side, beside it; 0: not.",
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
@json_option
@open_option("picture")
@setup_options
@click.pass_context
def generate(
    ctx: click.Context,
    prompt: str,
    schedule: str | None,
    seed: int,
    metrics: tuple[str, ...],
    out: Path | None,
    size: int,
    trajectory: Path | None,
    saliency: Path | None,
    as_json: bool,
    open_it: bool,
    setup: Setup,
) -> None:
    """Draw one prompt under one schedule.

    The command prints the scores of the picture, then its path. A small picture is also written enlarged, as
    NAME-256.png, so that it can be seen.
    """
    wanted = Files(out or Path(f"{name_of(prompt)}.png"), trajectory, saliency)
    wanted.check()
    drawing = _draw(ctx, prompt, schedule, seed, metrics, setup, wanted)
    for note in drawing.notes:
        console.echo_line("warning", str(note))
    files = wanted.write(drawing, size)
    if as_json:
        about = {"prompt": prompt, "schedule": drawing.schedule, "seed": seed}
        asked = {"questions": drawing.scores.questions} if drawing.scores.questions else {}
        print_json({**about, "scores": drawing.scores.values, **asked, **files})
    else:
        lines = {"schedule": drawing.schedule} if schedule is None else {}
        lines |= {column: f"{value:.2f}" for column, value in drawing.scores.values.items()}
        for name, value in (lines | files).items():
            click.echo(f"{name}: {value}")
    if open_it:
        open_page(files.get("enlarged", wanted.picture))
    for metric, reason in drawing.scores.errors.items():
        console.echo_line("error", f"metric {metric} failed: {reason}")
    if drawing.scores.errors:
        ctx.exit(1)


@dataclass(frozen=True)
class Files:
    """The files that a command line requests. None for a file that is not requested."""

    picture: Path
    trajectory: Path | None
    saliency: Path | None

    def check(self) -> None:
        """Check the names, and that the files can be written, before sampling, which may take minutes.

        :raises UsageError: for a name with the wrong suffix.
        """
        from guidelens.errors import UsageError
        from guidelens.files import check_writable
        from guidelens.report.trajectory import animation_format

        for flag, path in (("--out", self.picture), ("--saliency", self.saliency)):
            if path is not None and path.suffix.lower() != ".png":
                raise UsageError(f"{flag} {path}: the file name must end in .png")
        if self.saliency is not None and self.saliency.resolve() == self.picture.resolve():
            raise UsageError(f"--saliency {self.saliency} is the same file as --out: choose another name")
        if self.trajectory is not None:
            animation_format(self.trajectory)
        for path in filter(None, (self.picture, self.trajectory, self.saliency)):
            check_writable(path)

    def write(self, drawing: Drawing, size: int) -> dict[str, Path]:
        """Write the files of a drawing. Return their paths by content.

        :param size: the side of the enlarged copy in pixels; 0: no copy.
        """
        from guidelens.files import write_file
        from guidelens.pictures import enlarged, png_bytes
        from guidelens.report.saliency import labelled_strip
        from guidelens.report.trajectory import animation_format, encode_trajectory

        files = {"picture": self.picture}
        write_file(self.picture, png_bytes(drawing.picture))
        large = enlarged(drawing.picture, size)
        if large is not drawing.picture:
            files["enlarged"] = self.picture.with_name(f"{self.picture.stem}-{max(large.size)}.png")
            write_file(files["enlarged"], png_bytes(large))
        if self.trajectory is not None:
            files["trajectory"] = self.trajectory
            kind = animation_format(self.trajectory)
            write_file(self.trajectory, encode_trajectory(drawing.frames, kind))
        if self.saliency is not None and drawing.telemetry is not None:
            files["saliency"] = self.saliency
            write_file(self.saliency, png_bytes(labelled_strip(drawing.telemetry)))
        return files


def _draw(
    ctx: click.Context,
    prompt: str,
    schedule: str | None,
    seed: int,
    metrics: tuple[str, ...],
    setup: Setup,
    wanted: Files,
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
            keep_frames=wanted.trajectory is not None,
            keep_saliency=wanted.saliency is not None,
            on_step=on_step,
        )
