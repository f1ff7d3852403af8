"""``guidelens plugins new``: an installable package with a plugin, to change into one's own."""

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
@click.option("--kind", type=click.Choice(tuple(KINDS)), required=True, help="What the plugin offers.")
@click.option(
    "--out",
    type=UserPath(path_type=Path),
    metavar="DIR",
    help="Folder to write, which must not exist.  [default: NAME]",
)
@click.pass_context
def new(ctx: click.Context, name: str, kind: str, out: Path | None) -> None:
    """Write a package with a plugin called NAME: it works and passes its tests as it is."""
    taken = [plugin.name for plugin in get_manager(ctx).plugins]
    folder = out if out is not None else Path(name)
    for path in write_package(name, kind, folder, taken=taken):
        click.echo(path)
    there = shlex.quote(str(folder))
    click.echo(
        f"\nNext:\n  guidelens install -e {there}\n  guidelens plugins show {name}\n"
        f"  guidelens plugins check {name}\n  pytest {there}"
    )
