"""``guidelens gpu-check``: check a device against the CPU and measure its speed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guidelens.errors import GuidelensError
from guidelens.gpu_check import PARTS, CheckSettings
from guidelens.words import plural

from .completion import complete_component
from .options import (
    COMPUTING,
    MODELS,
    SectionedCommand,
    batch_sizes_option,
    device_option,
    generator_option,
    get_manager,
    guidance_option,
    plugin_option,
    repeats_option,
)
from .paths import UserPath
from .sections import option

if TYPE_CHECKING:
    from guidelens.gpu_check.record import CaseResult
    from guidelens.plugins import Component, PluginManager

_WORK = "What to check"

_EPILOG = """\b
Examples:
  guidelens gpu-check --out gpu
  guidelens gpu-check --out gpu --generator mine:checkpoint=weights.pt --part bench
  guidelens gpu-check --out gpu --device cpu --batch-size 1 --steps 2 --repeats 1
"""


@click.command("gpu-check", cls=SectionedCommand, epilog=_EPILOG)
@generator_option()
@guidance_option()
@option(
    "--schedule",
    "schedules",
    metavar="SPEC",
    multiple=True,
    default=("shift", "itc"),
    section=MODELS,
    shell_complete=complete_component("schedule"),
    help="Schedule that the part 'comparison' draws. Repeatable.  [default: shift, itc]",
)
@plugin_option()
@option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    section=_WORK,
    help="Part to run. Repeatable.  [default: all parts]",
)
@batch_sizes_option(1, 2, 4, 8, 16, section=_WORK)
@repeats_option(_WORK)
@option(
    "--steps",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    section=_WORK,
    help="Sampling steps of each picture.",
)
@option(
    "--tests",
    type=UserPath(path_type=Path, file_okay=False, exists=True),
    section=_WORK,
    help="Folder with the project's tests; the GPU tests in it are run.  [default: no tests]",
)
@option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    section=COMPUTING,
    help="Start no new case after this many minutes. Run the same command again to continue.",
)
@device_option("cuda")
@option(
    "--wheels",
    type=UserPath(path_type=Path, file_okay=False),
    section=COMPUTING,
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
    network = manager.resolve("generator", generator)
    components = network, manager.resolve("guidance", guidance, beside=network)
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
    """Check that everything the check needs is installed.

    :raises GuidelensError: if something is missing. The message names it, and the command that installs it.
    """
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
