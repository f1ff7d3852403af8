"""``guidelens plugins new``: write an installable package with a plugin, as a starting point."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from guidelens.scaffold import KINDS, write_package

from .options import get_manager
from .paths import UserPath

_EPILOG = """\b
Examples:
  guidelens plugins new my-objective --kind guidance
  guidelens plugins new my-schedule --kind schedule --out packages/my-schedule
"""


@click.command(epilog=_EPILOG)
@click.argument("name")
@click.option("--kind", type=click.Choice(tuple(KINDS)), required=True, help="Kind of component to write.")
@click.option(
    "--out",
    type=UserPath(path_type=Path),
    metavar="DIR",
    help="Folder to create; it must not exist.  [default: NAME]",
)
@click.pass_context
def new(ctx: click.Context, name: str, kind: str, out: Path | None) -> None:
    """Create an installable package with a plugin called NAME.

    The package works and its tests pass as created. docs/plugins/tutorial.md explains the next steps.
    """
    taken = [plugin.name for plugin in get_manager(ctx).plugins]
    folder = out if out is not None else Path(name)
    for path in write_package(name, kind, folder, taken=taken):
        click.echo(path)
    there = shlex.quote(str(folder))
    click.echo(
        f"\nNext:\n  guidelens install -e {there}\n  guidelens plugins show {name}\n"
        f"  guidelens plugins check {name}\n  pytest {there}"
    )
