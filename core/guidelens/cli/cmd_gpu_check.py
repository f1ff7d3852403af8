"""``guidelens gpu-check``: check a device against the CPU and measure its speed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guidelens.errors import GuidelensError
from guidelens.gpu_check import PARTS, CheckSettings
from guidelens.words import plural

from .completion import complete_component, complete_plugin
from .options import SectionedCommand, SectionedOption, get_manager
from .paths import UserPath

if TYPE_CHECKING:
    from guidelens.gpu_check.record import CaseResult
    from guidelens.plugins import Component, PluginManager

_MODELS, _WORK, _COMPUTE = "Models", "What to check", "Computing"

_EPILOG = """\b
Examples:
  guidelens gpu-check --out gpu
  guidelens gpu-check --out gpu --generator mine:checkpoint=weights.pt --part bench
  guidelens gpu-check --out gpu --device cpu --batch-size 1 --steps 2 --repeats 1
"""


@click.command("gpu-check", cls=SectionedCommand, epilog=_EPILOG)
@click.option(
    "--generator",
    metavar="SPEC",
    cls=SectionedOption,
    section=_MODELS,
    shell_complete=complete_component("generator"),
    help="Diffusion model: name or name:key=value,key=value.",
)
@click.option(
    "--guidance",
    metavar="SPEC",
    cls=SectionedOption,
    section=_MODELS,
    shell_complete=complete_component("guidance"),
    help="Vision-language model: name or name:key=value,key=value.",
)
@click.option(
    "--schedule",
    "schedules",
    metavar="SPEC",
    multiple=True,
    default=("shift", "itc"),
    cls=SectionedOption,
    section=_MODELS,
    shell_complete=complete_component("schedule"),
    help="Schedule that the part 'comparison' draws. Repeatable.  [default: shift, itc]",
)
@click.option(
    "-p",
    "--plugin",
    metavar="X",
    multiple=True,
    expose_value=False,
    cls=SectionedOption,
    section=_MODELS,
    shell_complete=complete_plugin,
    help="Load plugin X (name, module or .py file) and prefer its components; no:X blocks it.",
)
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    cls=SectionedOption,
    section=_WORK,
    help="Part to run. Repeatable.  [default: all parts]",
)
@click.option(
    "--batch-size",
    "batch_sizes",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 2, 4, 8, 16),
    cls=SectionedOption,
    section=_WORK,
    help="Pictures computed at once in the part 'bench'. Repeatable: each batch size is measured.  "
    "[default: 1, 2, 4, 8, 16]",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    cls=SectionedOption,
    section=_WORK,
    help="Measured rounds of each case.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    cls=SectionedOption,
    section=_WORK,
    help="Sampling steps of each picture.",
)
@click.option(
    "--tests",
    type=UserPath(path_type=Path, file_okay=False, exists=True),
    cls=SectionedOption,
    section=_WORK,
    help="Folder with the project's tests; the GPU tests in it are run.  [default: no tests]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    cls=SectionedOption,
    section=_COMPUTE,
    help="Start no new case after this many minutes. Run the same command again to continue.",
)
@click.option(
    "--device",
    default="cuda",
    show_default=True,
    cls=SectionedOption,
    section=_COMPUTE,
    help="auto, cpu, cuda, cuda:N or mps.",
)
@click.option(
    "--wheels",
    type=UserPath(path_type=Path, file_okay=False),
    cls=SectionedOption,
    section=_COMPUTE,
    help="Folder with wheels of the required packages, named in the pip command for missing ones.  "
    "[default: none]",
)
@click.option(
    "--out",
    type=UserPath(path_type=Path, file_okay=False),
    required=True,
    help="Folder for gpu-check.json and gpu-check.md; results in it are kept.",
)
@click.pass_context
def gpu_check(
    ctx: click.Context,
    generator: str | None,
    guidance: str | None,
    parts: tuple[str, ...],
    device: str,
    wheels: Path | None,
    out: Path,
    **wanted: Any,
) -> None:
    """Check a GPU against the CPU and measure its speed.

    The parts are: the project's GPU tests, agreement with the CPU, a benchmark by precision and batch
    size, an end-to-end comparison, and a batch that exceeds the memory. Each result is saved as soon as
    it is known. Run the same command again to continue after an interruption: cases that succeeded are
    not repeated. See docs/performance.md.
    """
    manager = get_manager(ctx)
    components = manager.resolve("generator", generator), manager.resolve("guidance", guidance)
    _refuse_missing(components, wanted["tests"] is not None, wheels)
    from guidelens.networks import resolve_device

    settings = CheckSettings(
        *components,
        device=str(resolve_device(device)),
        parts=parts or PARTS,
        plugins=manager.requests(),
        **wanted,
    )
    _run(manager, settings, out)


def _refuse_missing(components: tuple[Component, ...], tests: bool, wheels: Path | None) -> None:
    """:raises GuidelensError: naming everything that is not installed, and the command that installs it."""
    from guidelens.gpu_check.requirements import missing_requirements, pip_install

    if missing := missing_requirements(components, tests=tests):
        raise GuidelensError(f"not installed: {', '.join(missing)}; run {pip_install(missing, wheels)}")


def _run(manager: PluginManager, settings: CheckSettings, out: Path) -> None:
    from guidelens.gpu_check.run import check

    record, left = check(manager, settings, out, on_case=_say)
    failed = [name for name, result in record.results.items() if result.state == "failed"]
    click.echo(f"results: {record.path}")
    click.echo(f"table:   {record.table_path}")
    if left:
        click.echo(
            f"time limit reached: {plural(len(left), 'case')} did not run; run the same command again to continue",
            err=True,
        )
    if failed:
        click.echo(f"failed: {', '.join(failed)}", err=True)
    if failed or left:
        raise SystemExit(1)


def _say(name: str, result: CaseResult | None) -> None:
    if result is not None:
        click.echo(f"{name}: {result.state}, {result.seconds:.1f} s {result.message}".rstrip(), err=True)
