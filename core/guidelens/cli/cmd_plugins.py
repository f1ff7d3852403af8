"""``guidelens plugins``: which plugins there are, what became of them, and the components they offer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from . import console
from .options import get_manager

if TYPE_CHECKING:
    from guidelens.plugins import ComponentInfo, OptionInfo, PluginInfo

_COLOURS = {"ok": "green", "blocked": "bright_black", "missing dependency": "yellow", "broken": "red"}


@click.group()
def plugins() -> None:
    """Show plugins and the components they offer.

    Plugins are found through the entry-point group "guidelens" of installed
    distributions, and through --plugin and GUIDELENS_PLUGINS.
    """


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per plugin.")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of plugins that failed.")
@click.pass_context
def list_command(ctx: click.Context, as_json: bool, verbose: bool) -> None:
    """List plugins: version, origin, what they offer, and whether they work."""
    manager = get_manager(ctx)
    manager.commands()  # a plugin may break here too
    if as_json:
        click.echo(json.dumps([describe_plugin(plugin) for plugin in manager.plugins], indent=2))
        return
    _print_plugins(manager.plugins, verbose)


@plugins.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show_command(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show the components of plugin NAME, with their options, types and defaults."""
    plugin = get_manager(ctx).plugin(name)
    if as_json:
        click.echo(json.dumps(describe_plugin(plugin), indent=2))
        return
    _print_plugins((plugin,), tracebacks=False)
    for component in plugin.components:
        _print_component(component)


def describe_plugin(plugin: PluginInfo) -> dict[str, Any]:
    """Return a plugin as JSON values; what ``plugins list --json`` prints."""
    return {
        "name": plugin.name,
        "version": plugin.source.version or None,
        "distribution": plugin.source.dist or None,
        "origin": plugin.source.origin,
        "status": plugin.status,
        "message": plugin.message or None,
        "hooks": list(plugin.hooks),
        "components": [describe_component(component) for component in plugin.components],
    }


def describe_component(component: ComponentInfo) -> dict[str, Any]:
    """Return a component as JSON values."""
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": component.summary,
        "default": component.default,
        "requires": list(component.requires),
        "missing": list(component.missing),
        "options": [
            {
                "name": option.name,
                "type": option.type_name,
                "required": option.required,
                "default": _default_text(option),
            }
            for option in component.options
        ],
    }


def _default_text(option: OptionInfo) -> str | None:
    """Return a default as it is spelled; None where there is none."""
    from guidelens.plugins.values import REQUIRED, format_value

    return None if option.default is REQUIRED else format_value(option.default)


def _print_plugins(plugins: tuple[PluginInfo, ...], tracebacks: bool) -> None:
    """Print a line per plugin, and below it what it offers or why it does not."""
    rows = [(p.name, f"{p.source.dist} {p.source.version}".strip() or "-", p.status) for p in plugins]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for plugin, row in zip(plugins, rows, strict=True):
        name, dist, status = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        console.print_out(
            f"{name}  {dist}  {click.style(status, _COLOURS[plugin.status])}  {plugin.source.origin}"
        )
        for line in _offers(plugin):
            console.print_out(f"    {line}")
        if plugin.message:
            console.print_out(f"    {plugin.message}")
        if tracebacks and plugin.details:
            console.print_out("".join(f"      {line}\n" for line in plugin.details.splitlines()), nl=False)


def _offers(plugin: PluginInfo) -> list[str]:
    """Return one line per kind: ``schedules: itc, itm``."""
    from guidelens.plugins import KINDS

    lines = []
    for kind in KINDS.values():
        names = [component.name for component in plugin.components if component.kind == kind.name]
        if names:
            lines.append(f"{kind.noun if len(names) == 1 else kind.plural}: {', '.join(names)}")
    if "register_commands" in plugin.hooks:
        lines.append("commands (see guidelens --help)")
    return lines


def _print_component(component: ComponentInfo) -> None:
    from guidelens.plugins import KINDS

    default = " (default)" if component.default else ""
    click.echo(f"\n{KINDS[component.kind].noun} {component.name}{default}\n  {component.summary}")
    if component.missing:
        click.echo(f"  not installed: {', '.join(component.missing)}")
    rows = []
    for option in component.options:
        name = "NAME" if option.name == "*" else option.name
        text = _default_text(option)
        if option.name == "*":
            note = "for any NAME"
        elif text is None:
            note = "needed"
        else:
            note = f"default: {text}" if text else "default: empty"
        rows.append((f"{name}={option.type_name}", note))
    width = max((len(left) for left, _ in rows), default=0)
    for left, note in rows:
        click.echo(f"  {left:<{width}}  {note}")
