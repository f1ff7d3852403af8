"""``guidelens study show`` and ``new``: read a study's file, or start one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from guidelens.errors import UsageError

from . import console
from .options import get_manager
from .paths import UserPath

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager
    from guidelens.studies.file import Grid

STARTER = """\
# A study: every combination of prompts, schedules, seeds and settings of a grid is drawn once.
# guidelens study run {file} draws what is missing and writes the report. Keys: docs/studies.md.

name = "{name}"
summary = "what the scale of the guidance changes"
prompts = ["a red circle above a blue square", "two small green triangles"]
schedules = ["none", "itc", "cap"]
steps = 25
seeds = 2

[[grid]]
name = "scales"
scales = [0.3, 1.0, 3.0]
"""
"""A study that runs unchanged, with any guidance model that has the objectives itc and cap."""


@click.command("show")
@click.argument("study_name", metavar="FILE|NAME")
@click.pass_context
def show_command(ctx: click.Context, study_name: str) -> None:
    """Show a study: what it compares, and its file.

    FILE is a study file (.toml); NAME is a study that a plugin offers (see guidelens study ls).
    """
    from guidelens.studies.run import find_study

    found = find_study(study_name, get_manager(ctx))
    console.print_out(f"{found.name}: {found.summary}" if found.summary else found.name)
    width = max(len(grid.name) for grid in found.grids)
    for grid in found.grids:
        console.print_out(f"  {grid.name:<{width}}  {_about(grid)}".rstrip())
    console.print_out("")
    click.echo(found.text.rstrip())


def _about(grid: Grid) -> str:
    asked = f" ({', '.join(grid.claims)})" if grid.claims else ""
    return f"{grid.summary}{asked}"


@click.command("new")
@click.argument("file", type=UserPath(path_type=Path, dir_okay=False))
@click.option(
    "--from",
    "original",
    metavar="NAME",
    help="Study of a plugin to copy (see guidelens study ls).  [default: a small example]",
)
@click.pass_context
def new_command(ctx: click.Context, file: Path, original: str | None) -> None:
    """Write a study file to start from.

    FILE must end in .toml and must not exist.
    """
    from guidelens.files import write_file

    if file.suffix != ".toml":
        raise UsageError(f"{file}: the file name must end in .toml")
    if file.exists():
        raise UsageError(f"{file} exists: choose another name")
    text = (
        STARTER.format(name=file.stem, file=file) if original is None else _copy(original, get_manager(ctx))
    )
    write_file(file, text.encode())
    console.print_out(f"study: {file}")
    console.print_out(f"run it with: guidelens study run {file}")


def _copy(name: str, manager: PluginManager) -> str:
    from guidelens.studies.run import find_study

    return find_study(name, manager).text
