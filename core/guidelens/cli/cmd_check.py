"""``guidelens plugins check``: run the conformance kit on the components of a plugin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import KINDS

from . import console
from .completion import complete_component_or_plugin
from .options import get_manager

if TYPE_CHECKING:
    from guidelens.plugins import PluginInfo
    from guidelens.testing import ConformanceReport

_COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


@click.command("check")
@click.argument("name", shell_complete=complete_component_or_plugin)
@click.argument("components", nargs=-1, metavar="[COMPONENT]...")
@click.option(
    "--kind",
    type=click.Choice(tuple(KINDS)),
    help="Check only components of this kind.  [default: all kinds]",
)
@click.option(
    "--device", default="cpu", show_default=True, help="Device of the networks: cpu, cuda, cuda:N or mps."
)
@click.option(
    "--prompt",
    "prompts",
    metavar="TEXT",
    multiple=True,
    help="Prompt for guidance models and metrics. Repeat it for three or more.  "
    "[default: prompts of the plugin's prompt sets, else built-in ones]",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=1),
    help="Width and height in pixels of the images that models and metrics are given.  "
    "[default: the image size of the plugin's generator, else 32]",
)
@click.option(
    "--skip", metavar="CHECK", multiple=True, help="Check to leave out. Repeatable.  [default: none]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the reports of all components as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print one line per component, and the checks that failed.")
@click.pass_context
def check(
    ctx: click.Context,
    name: str,
    components: tuple[str, ...],
    kind: str | None,
    as_json: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Check the components of a plugin against their contracts.

    NAME is a plugin's name, a module, or a .py file. COMPONENT is name or
    name:key=value; it selects a component and sets its options. Without
    COMPONENT, all components are checked with their default options. The
    exit code is 1 if a check fails. See docs/plugins/testing.md.
    """
    plugin = _plugin(ctx, name)
    from guidelens.networks import resolve_device
    from guidelens.testing.plugin import PluginCheck, check_plugin

    resolve_device(how["device"])
    reports = []
    for report in check_plugin(plugin, components, kind=kind, how=PluginCheck(**how)):
        reports.append(report)
        if not as_json:
            _print_report(report, quiet)
    if as_json:
        found = {
            "plugin": plugin.name,
            "ok": all(r.ok for r in reports),
            "components": [r.to_json() for r in reports],
        }
        click.echo(json.dumps(found, indent=2))
    else:
        _print_summary(plugin, reports)
    if not all(report.ok for report in reports):
        ctx.exit(1)


def _plugin(ctx: click.Context, name: str) -> PluginInfo:
    """Return the plugin called ``name``. A file or module that ``-p`` did not load is loaded now."""
    manager = get_manager(ctx)
    if any(plugin.source.answers_to(name) for plugin in manager.plugins):
        plugin = manager.plugin(name)
    else:
        from guidelens.plugins import PluginManager

        plugin = PluginManager.load([name]).plugins[-1]
    if plugin.status == "blocked":
        raise UsageError(f"{plugin.title} is {plugin.message}")
    if not plugin.loaded:
        raise GuidelensError(f"{plugin.title} {plugin.message}") from plugin.error
    return plugin


def _print_report(report: ConformanceReport, quiet: bool) -> None:
    noun = "prompt set" if report.kind == "prompts" else report.kind
    console.print_out(f"{click.style(f'{noun} {report.component}', bold=True)}: {_counts([report])}")
    shown = report.failures if quiet else report.checks
    width = max((len(check.name) for check in shown), default=0)
    for check in shown:
        status = click.style(f"{check.status:<7}", fg=_COLOURS[check.status])
        console.print_out(f"  {status}  {check.name:<{width}}  {check.detail}".rstrip())


def _print_summary(plugin: PluginInfo, reports: list[ConformanceReport]) -> None:
    if not reports:
        console.print_out(f"{plugin.title} offers no components to check")
        return
    failed = [
        f"{report.component} ({', '.join(c.name for c in report.failures)})"
        for report in reports
        if not report.ok
    ]
    verdict = f"; failed: {', '.join(failed)}" if failed else ""
    console.print_out(f"{plugin.name}: {_counts(reports)}{verdict}")


def _counts(reports: list[ConformanceReport]) -> str:
    """Return ``12 passed, 1 failed, 2 not checked``."""
    words = {"passed": "passed", "failed": "failed", "skipped": "not checked"}
    checks = [check for report in reports for check in report.checks]
    found = {word: sum(check.status == status for check in checks) for status, word in words.items()}
    return ", ".join(f"{count} {word}" for word, count in found.items() if count)
