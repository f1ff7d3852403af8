"""Print plugins and components: as a table on a terminal, otherwise as lines that are easy to search."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from . import console

if TYPE_CHECKING:
    from guidelens.plugins import ComponentInfo, OptionInfo, PluginInfo

Commands = Mapping["PluginInfo", Sequence[str]]
"""The names of the commands that each plugin adds."""

_COLOURS = {"ok": "green", "blocked": "bright_black", "missing dependency": "yellow", "broken": "red"}
_INDENT = "    "


def print_table(plugins: Sequence[PluginInfo], commands: Commands) -> None:
    """Print a table, then the problems of plugins in unwrapped lines that can be copied."""
    from rich.table import Table
    from rich.text import Text

    screen = console.out()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("plugin", "from", "offers", "status"):
        table.add_column(title, overflow="fold")
    for plugin in plugins:
        origin = Text(f"{_dist(plugin)}\n" if plugin.source.dist else "")
        origin.append(f"{plugin.source.via} {plugin.source.origin}", style="dim")
        offers = "\n".join(offers_of(plugin, commands[plugin])) or "nothing"
        status = Text(plugin.status, style=_COLOURS[plugin.status])
        table.add_row(Text(plugin.name, style="bold"), origin, offers, status)
    screen.print(table)
    for plugin in plugins:
        if plugin.message:
            console.print_out(f"{click.style(plugin.name, fg=_COLOURS[plugin.status])}: {plugin.message}")


def print_lines(plugins: Sequence[PluginInfo], commands: Commands) -> None:
    """Print a line for each plugin, then its components or its problem."""
    rows = [(p.name, _dist(p) or "-", p.status) for p in plugins]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for plugin, row in zip(plugins, rows, strict=True):
        name, dist, status = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        status = click.style(status, _COLOURS[plugin.status])
        console.print_out(f"{name}  {dist}  {status}  {plugin.source.via}  {plugin.source.origin}")
        for line in offers_of(plugin, commands[plugin]):
            console.print_out(f"{_INDENT}{line}")
        if plugin.message:
            console.print_out(f"{_INDENT}{plugin.message}")


def print_tracebacks(plugins: Sequence[PluginInfo]) -> None:
    """Print the traceback of every plugin that has one."""
    for plugin in plugins:
        if plugin.details:
            console.print_out(f"\n{plugin.title}:")
            console.print_out("".join(f"  {line}\n" for line in plugin.details.splitlines()), nl=False)


def offers_of(plugin: PluginInfo, commands: Sequence[str] = ()) -> list[str]:
    """Return one line per kind: ``schedules: itc, itm``."""
    from guidelens.plugins import KINDS

    lines = []
    for kind in KINDS.values():
        names = [component.name for component in plugin.components if component.kind == kind.name]
        if names:
            lines.append(f"{kind.noun if len(names) == 1 else kind.plural}: {', '.join(names)}")
    if commands:
        lines.append(f"{'command' if len(commands) == 1 else 'commands'}: {', '.join(commands)}")
    if "register_weights" in plugin.hooks:
        lines.append("weights files (see guidelens weights)")
    if "register_studies" in plugin.hooks:
        lines.append("studies (see guidelens study ls)")
    if "register_report_sections" in plugin.hooks:
        lines.append("sections of study reports")
    return lines


def print_component(info: ComponentInfo, owner: PluginInfo | None = None) -> None:
    """Print a component with its options, and its plugin if ``owner`` is given."""
    from guidelens.plugins import KINDS
    from guidelens.plugins.requirements import pip_command

    default = " (default)" if info.default else ""
    of = f", of {owner.title}" if owner is not None else ""
    click.echo(f"\n{KINDS[info.kind].noun} {info.name}{default}{of}\n  {info.summary}")
    if info.missing:
        click.echo(
            f"  not installed: {', '.join(info.missing)}; {pip_command(*info.requirements(info.missing))}"
        )
    rows = [_option_row(option) for option in info.options]
    width = max((len(left) for left, _ in rows), default=0)
    for option, (left, note) in zip(info.options, rows, strict=True):
        click.echo(f"  {left:<{width}}  {note}")
        if option.help:
            click.echo(_wrapped(option.help, indent=6))
    if owner is not None and owner.docs:
        click.echo(f"  documentation: {owner.docs}")


def _option_row(option: OptionInfo) -> tuple[str, str]:
    """Return ``name=type`` with its default and choices."""
    name = "NAME" if option.name == "*" else option.name
    text = option.default_text
    if option.name == "*":
        note = "for any NAME"
    elif text is None:
        note = "needed"
    else:
        note = f"default: {text}" if text else "default: empty"
    return f"{name}={option.type_name}", note


def _wrapped(text: str, *, indent: int) -> str:
    """Return text wrapped to the width of the terminal, or on one line without a terminal."""
    margin = " " * indent
    if not sys.stdout.isatty():
        return margin + text
    width = min(shutil.get_terminal_size().columns, 100)
    return click.wrap_text(text, width, initial_indent=margin, subsequent_indent=margin)


def _dist(plugin: PluginInfo) -> str:
    return f"{plugin.source.dist} {plugin.source.version}".strip()
