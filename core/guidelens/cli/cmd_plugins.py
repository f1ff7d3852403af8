"""``guidelens plugins``: list plugins, their status and their components."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import KINDS

from .cmd_check import check
from .cmd_new import new
from .completion import complete_component_or_plugin
from .options import get_manager
from .sections import CommandGroup

if TYPE_CHECKING:
    from guidelens.plugins import ComponentInfo, PluginInfo, PluginManager

logger = logging.getLogger(__name__)


@click.group(cls=CommandGroup)
def plugins() -> None:
    """List, show, check and create plugins.

    guidelens finds plugins through the entry-point group "guidelens" of
    installed packages, through --plugin, and through the environment
    variable GUIDELENS_PLUGINS. See docs/plugins/index.md.
    """


plugins.add_command(new)
plugins.add_command(check)


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per plugin.")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of plugins that failed.")
@click.pass_context
def list_command(ctx: click.Context, as_json: bool, verbose: bool) -> None:
    """List plugins with version, origin, components and status."""
    manager = get_manager(ctx)
    commands = command_names(manager)
    if as_json:
        click.echo(json.dumps([describe_plugin(p, commands[p]) for p in manager.plugins], indent=2))
        return
    from . import plugin_views

    show = plugin_views.print_table if sys.stdout.isatty() else plugin_views.print_lines
    show(manager.plugins, commands)
    if verbose:
        plugin_views.print_tracebacks(manager.plugins)


@plugins.command("show")
@click.argument("name", shell_complete=complete_component_or_plugin)
@click.option(
    "--kind", type=click.Choice(tuple(KINDS)), help="Show only components of this kind.  [default: all kinds]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show_command(ctx: click.Context, name: str, kind: str | None, as_json: bool) -> None:
    """Show components with their options, types and defaults.

    NAME is the name of a plugin or of a component.
    """
    manager = get_manager(ctx)
    commands = command_names(manager)
    plugin, components = _find(manager, name, kind)
    if as_json:
        if plugin is not None:
            found: Any = describe_plugin(plugin, commands[plugin], components)
        else:
            found = [{**describe_component(info), "plugin": info.plugin} for info in components]
        click.echo(json.dumps(found, indent=2))
        return
    from . import plugin_views

    if plugin is not None:
        plugin_views.print_lines((plugin,), commands)
        if plugin.docs:
            click.echo(f"    documentation: {plugin.docs}")
    for info in components:
        owner = None if plugin is not None else manager.owner(info)
        plugin_views.print_component(info, owner)


def _find(
    manager: PluginManager, name: str, kind: str | None
) -> tuple[PluginInfo | None, Sequence[ComponentInfo]]:
    """Return the plugin called ``name`` and its components, or else None and the components called ``name``."""
    if any(plugin.source.answers_to(name) for plugin in manager.plugins):
        plugin = manager.plugin(name)
        components = [info for info in plugin.components if kind in (None, info.kind)]
        if kind is not None and not components:
            raise UsageError(f"{plugin.title} offers no component of the kind {kind!r}")
        return plugin, components
    named = manager.named(name.partition(":")[0], kind)
    if not named:
        from guidelens.plugins.spelling import suggestion

        known = [p.name for p in manager.plugins] + [info.name for info in manager.components(kind)]
        near = suggestion(name, known)
        raise UsageError(
            f"no plugin or component {name!r}{near or '; see `guidelens plugins list`'}"
            + (f" (only components of the kind {kind!r} were searched)" if kind else "")
        )
    return None, named


def command_names(manager: PluginManager) -> dict[PluginInfo, list[str]]:
    """Return the names of the commands of each plugin. This can change a plugin's status to broken."""
    names: dict[PluginInfo, list[str]] = {plugin: [] for plugin in manager.plugins}
    for plugin, name, _ in manager.commands():
        names[plugin].append(name)
    return names


def describe_plugin(
    plugin: PluginInfo, commands: Sequence[str], components: Sequence[ComponentInfo] | None = None
) -> dict[str, Any]:
    """Return a plugin as JSON values, as ``plugins list --json`` prints it."""
    offered = plugin.components if components is None else components
    return {
        "name": plugin.name,
        "version": plugin.source.version or None,
        "distribution": plugin.source.dist or None,
        "found": plugin.source.via,
        "origin": plugin.source.origin,
        "status": plugin.status,
        "message": plugin.message or None,
        "documentation": plugin.docs or None,
        "hooks": list(plugin.hooks),
        "components": [describe_component(component) for component in offered],
        "commands": list(commands),
    }


def describe_component(component: ComponentInfo) -> dict[str, Any]:
    """Return a component as JSON values. If its signature cannot be read, the options are empty."""
    try:
        options = component.options
    except GuidelensError as error:
        logger.warning("%s", error)
        options = ()
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": component.summary,
        "default": bool(component.default),
        "requires": list(component.requires),
        "missing": list(component.missing),
        "options": [
            {
                "name": option.name,
                "type": option.type_name,
                "required": option.required,
                "default": option.default_text,
                "help": option.help or None,
            }
            for option in options
        ],
    }
