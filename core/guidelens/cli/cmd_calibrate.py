"""``guidelens calibrate``: propose scales that give the objectives gradients of equal size."""

from __future__ import annotations

from pathlib import Path

import click

from .completion import complete_component
from .options import SectionedCommand, SectionedOption, Setup, get_manager, setup_options
from .paths import UserPath

_PROMPTS = "What to draw"

_EPILOG = """\b
Examples:
  guidelens calibrate --prompts prompts.txt --limit 16 --out scales
  guidelens calibrate "a red circle" "two crosses" --steps 20 --out scales
"""


@click.command(cls=SectionedCommand, epilog=_EPILOG)
@click.argument("prompts", metavar="[PROMPT]...", nargs=-1)
@click.option(
    "--prompts",
    "prompt_set",
    metavar="SET",
    shell_complete=complete_component("prompts"),
    cls=SectionedOption,
    section=_PROMPTS,
    help="Prompt set or file of prompts, used if no PROMPT is given. See docs/prompts.md.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    cls=SectionedOption,
    section=_PROMPTS,
    help="Maximum number of prompts.",
)
@click.option(
    "--reference",
    cls=SectionedOption,
    section=_PROMPTS,
    help="Objective whose scale is kept; the others are scaled to match it.  [default: the first by name]",
)
@click.option(
    "--out",
    type=UserPath(path_type=Path, file_okay=False),
    required=True,
    cls=SectionedOption,
    section=_PROMPTS,
    help="Folder for scales.toml and gradients.svg; existing files are replaced.",
)
@setup_options
@click.pass_context
def calibrate(
    ctx: click.Context,
    prompts: tuple[str, ...],
    prompt_set: str | None,
    limit: int,
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
    from guidelens.errors import UsageError
    from guidelens.files import write_file
    from guidelens.runs.config import as_prompts
    from guidelens.runs.resolve import resolve_components

    if prompts and prompt_set is not None:
        raise UsageError(f"give either PROMPT or --prompts {prompt_set}, not both")
    manager = get_manager(ctx)
    chosen = as_prompts([*(prompts or manager.build("prompts", prompt_set))][:limit])
    parts = resolve_components(manager, generator=setup.generator, guidance=setup.guidance)
    built = Engine(
        parts.generator.component,
        parts.guidance.component,
        setup.sampling,
        device=setup.device,
        batch_size=setup.batch_size,  # type: ignore[arg-type]  # a number or "auto", which Engine checks
    )
    found = measure(built, chosen)
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
