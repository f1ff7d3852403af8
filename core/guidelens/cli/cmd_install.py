"""``guidelens install`` and ``uninstall``: add and remove packages with plugins in the environment of guidelens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from guidelens.errors import UsageError

from . import console
from .options import get_manager

if TYPE_CHECKING:
    from guidelens.plugins.packages import Package

_EPILOG = """\b
Examples:
  guidelens install my-objective
  guidelens install -e ./my-objective
  guidelens install my-objective -- --no-index --find-links wheels/

Arguments after -- are passed to pip.
"""


@click.command(epilog=_EPILOG)
@click.argument("packages", metavar="[PACKAGE]...", nargs=-1)
@click.option(
    "-e",
    "--editable",
    metavar="DIR",
    multiple=True,
    help="Install the project in DIR in editable mode. Repeatable.  [default: none]",
)
@click.option("-U", "--upgrade", is_flag=True, help="Upgrade installed packages to the newest version.")
@click.option("--pre", is_flag=True, help="Allow pre-releases.")
def install(packages: tuple[str, ...], editable: tuple[str, ...], upgrade: bool, pre: bool) -> None:
    """Install packages with pip and list the plugins that they add.

    The packages go into the environment of guidelens. A PACKAGE is anything that pip accepts: a name,
    a requirement, a folder, an archive or a URL.
    """
    from guidelens.plugins import packages as library

    wanted = [*(text for text in packages if not text.startswith("-")), *editable]
    if not wanted:
        raise UsageError("name a package to install, or a folder with -e")
    before = library.installed()
    flags = [*(["--upgrade"] if upgrade else []), *(["--pre"] if pre else [])]
    library.install([*flags, *packages, *(word for folder in editable for word in ("-e", folder))])
    named, others = library.touched(wanted, before)
    _report(named, others, library.plugins_now())


def _report(named: Sequence[Package], others: Sequence[Package], plugins: Iterable[dict[str, Any]]) -> None:
    """Print the plugins of the requested packages and of their new dependencies."""
    by_package: dict[str | None, list[dict[str, Any]]] = {}
    for plugin in plugins:
        by_package.setdefault(plugin["distribution"], []).append(plugin)
    for package in named:
        if package.name not in by_package:
            click.echo(f"{package.title} is installed; it offers no guidelens plugin")
    for package in (*named, *others):
        for plugin in by_package.get(package.name, ()):
            _print_plugin(package, plugin)
    if not named and not any(package.name in by_package for package in others):
        click.echo("installed; no package offers a guidelens plugin")


def _print_plugin(package: Package, plugin: dict[str, Any]) -> None:
    from guidelens.plugins import KINDS

    click.echo(f"{package.title}: plugin {plugin['name']}")
    for kind in KINDS.values():
        names = [part["name"] for part in plugin["components"] if part["kind"] == kind.name]
        if names:
            click.echo(f"  {kind.noun if len(names) == 1 else kind.plural}: {', '.join(names)}")
    if plugin["commands"]:
        click.echo(f"  commands: {', '.join(plugin['commands'])}")
    if plugin["status"] != "ok":
        console.echo_line("warning", f"plugin {plugin['name']!r} {plugin['message']}")


@click.command()
@click.argument("packages", metavar="PACKAGE...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_context
def uninstall(ctx: click.Context, packages: tuple[str, ...], yes: bool) -> None:
    """Remove packages with plugins, with pip, from the environment of guidelens."""
    from guidelens.plugins import packages as library
    from guidelens.plugins.requirements import normalized

    there = library.installed()
    plugins = get_manager(ctx).plugins
    chosen = []
    for text in packages:
        package = there.get(normalized(text))
        if package is None:
            raise UsageError(_unknown(text, [p.name for p in there.values()], plugins))
        if package.name == "guidelens":
            raise UsageError("that would remove guidelens itself; use pip, or block a plugin with -p no:NAME")
        chosen.append(package)
    for package in chosen:
        theirs = [plugin.name for plugin in plugins if plugin.source.dist == package.name]
        offered = (
            f"with the plugin{'s' if len(theirs) > 1 else ''} {', '.join(theirs)}" if theirs else "no plugin"
        )
        click.echo(f"{package.title} ({offered})")
    if not yes:
        click.confirm("Remove?", abort=True)
    library.uninstall([package.name for package in chosen])


def _unknown(text: str, names: Iterable[str], plugins: Iterable[Any]) -> str:
    from guidelens.plugins.spelling import suggestion

    for plugin in plugins:
        if plugin.name == text and plugin.source.dist:
            return f"{text!r} is a plugin of the package {plugin.source.dist!r}: give the name of the package"
    return f"no package {text!r} is installed{suggestion(text, names)}"
