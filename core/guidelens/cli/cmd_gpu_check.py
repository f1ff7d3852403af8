"""``guidelens gpu-check``: does everything work on this device, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guidelens.errors import GuidelensError
from guidelens.gpu_check import PARTS, CheckSettings

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
    help="Diffusion model: name or name:key=value,key=value.  [default: the plugin's]",
)
@click.option(
    "--guidance",
    metavar="SPEC",
    cls=SectionedOption,
    section=_MODELS,
    shell_complete=complete_component("guidance"),
    help="Vision-language model.  [default: the plugin's]",
)
@click.option(
    "--schedule",
    "schedules",
    metavar="SPEC",
    multiple=True,
    default=("shift", "itc"),
    show_default="shift, itc",
    cls=SectionedOption,
    section=_MODELS,
    shell_complete=complete_component("schedule"),
    help="Schedule of the part 'comparison'. Repeatable.",
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
    help="Load plugin X (name, module or .py file) and prefer what it offers; no:X blocks it.",
)
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    cls=SectionedOption,
    section=_WORK,
    help="Run this part alone. Repeatable.  [default: all of them]",
)
@click.option(
    "--batch-size",
    "batch_sizes",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 2, 4, 8, 16),
    show_default="1, 2, 4, 8, 16",
    cls=SectionedOption,
    section=_WORK,
    help="Pictures computed at once in the part 'bench'. Repeatable.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    cls=SectionedOption,
    section=_WORK,
    help="Rounds of each measurement.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    cls=SectionedOption,
    section=_WORK,
    help="Sampling steps of pictures.",
)
@click.option(
    "--tests",
    type=UserPath(path_type=Path, file_okay=False, exists=True),
    cls=SectionedOption,
    section=_WORK,
    help="Folder with the project's tests; those that need a GPU run.  [default: left out]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    cls=SectionedOption,
    section=_COMPUTE,
    help="Begin no further case after this time; the next call goes on.",
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
    help="Folder with the packages that may be missing, for the command that installs them.",
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
    """Check that a device computes what the CPU does, and measure how fast.

    The parts are the project's GPU tests, agreement with the CPU, the benchmark by precision and batch size, a
    comparison from end to end, and a batch that does not fit into memory. Each result is written at once. Run the same
    command again to go on after an interruption: cases that succeeded are kept.
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
        raise GuidelensError(f"not installed here: {', '.join(missing)}; run {pip_install(missing, wheels)}")


def _run(manager: PluginManager, settings: CheckSettings, out: Path) -> None:
    from guidelens.gpu_check.run import check

    record, left = check(manager, settings, out, on_case=_say)
    failed = [name for name, result in record.results.items() if result.state == "failed"]
    click.echo(f"results: {record.path}")
    click.echo(f"table:   {record.table_path}")
    if left:
        click.echo(f"time is up: {len(left)} cases did not run; the same command goes on with them", err=True)
    if failed:
        click.echo(f"failed: {', '.join(failed)}", err=True)
    if failed or left:
        raise SystemExit(1)


def _say(name: str, result: CaseResult | None) -> None:
    if result is not None:
        click.echo(f"{name}: {result.state}, {result.seconds:.1f} s {result.message}".rstrip(), err=True)
