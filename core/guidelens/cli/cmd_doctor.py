"""``guidelens doctor``: show versions, devices, plugins and weights, and report problems."""

from __future__ import annotations

import dataclasses
import json

import click

from . import console
from .options import get_manager


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Show versions, devices and plugins, and report problems.

    The output also lists weights files and environment variables. Paste it
    into bug reports. Each problem comes with a hint; the exit code is 1 if
    there is one.
    """
    from guidelens.doctor import diagnose

    sections = diagnose(get_manager(ctx))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(section) for section in sections], indent=2))
    else:
        for section in sections:
            console.print_out(click.style(section.title, bold=True))
            width = max((len(name) for name, _ in section.lines), default=0)
            for name, value in section.lines:
                console.print_out(f"  {name:<{width}}  {value}")
            for hint in section.hints:
                console.print_out(f"  {click.style('hint:', fg='yellow')} {hint}")
    ctx.exit(1 if any(section.hints for section in sections) else 0)
