"""``guidelens calibrate``: propose scales that give the objectives gradients of equal size."""

from __future__ import annotations

from pathlib import Path

import click

from .options import SectionedCommand, Setup, get_manager, setup_options
from .paths import UserPath
from .prompt_options import DRAWING, PromptChoice, prompt_options
from .sections import option

_EPILOG = """\b
Examples:
  guidelens calibrate --prompts prompts.txt --limit 16 --out scales
  guidelens calibrate "a red circle" "two crosses" --steps 20 --out scales
"""


@click.command(cls=SectionedCommand, epilog=_EPILOG)
@prompt_options(limit=16)
@option(
    "--reference",
    section=DRAWING,
    help="Objective whose scale is kept; the others are scaled to match it.  [default: the first by name]",
)
@option(
    "--out",
    type=UserPath(path_type=Path, file_okay=False),
    required=True,
    section=DRAWING,
    help="Folder for scales.toml and gradients.svg; existing files are replaced.",
)
@setup_options
@click.pass_context
def calibrate(
    ctx: click.Context,
    chosen: PromptChoice,
    reference: str | None,
    out: Path,
    setup: Setup,
) -> None:
    """Measure gradients of objectives and propose scales.

    The gradients are measured on unguided trajectories. The command prints the proposed objective_scales as TOML.
    See docs/guidance.md.
    """
    from guidelens.analysis.calibration import calibrate as measure
    from guidelens.analysis.calibration import toml_fragment
    from guidelens.analysis.plot import Curve, log_plot
    from guidelens.engine import Engine
    from guidelens.files import write_file
    from guidelens.runs.resolve import resolve_components

    manager = get_manager(ctx)
    prompts = chosen.read(manager, manager.resolve("generator", setup.generator))
    parts = resolve_components(manager, generator=setup.generator, guidance=setup.guidance)
    built = Engine(
        parts.generator.component,
        parts.guidance.component,
        setup.sampling,
        device=setup.device,
        batch_size=setup.batch_size,  # type: ignore[arg-type]  # a number or "auto", which Engine checks
    )
    found = measure(built, prompts)
    kept = reference or next(iter(found.norms))
    fragment = toml_fragment(found, kept, parts.generator.name, parts.guidance.name)
    curves = []
    for name in found.norms:
        steps = found.at_step(name)
        curves.append(Curve(name, [e.mean for e in steps], [(e.low, e.high) for e in steps]))
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "scales.toml", fragment.encode())
    write_file(out / "gradients.svg", log_plot(curves, "|dL/dx0| of each objective, unguided").encode())
    click.echo(fragment, nl=False)
    click.echo(f"written: {out / 'scales.toml'}, {out / 'gradients.svg'}")
