"""The reference pages, made from the program: commands from click, components from plugins, modules by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from guidelens.cli.main import cli
from guidelens.plugins import KINDS, ComponentInfo, PluginInfo, PluginManager

MODULES = {
    "library": (
        "Library",
        ["guidelens.engine", "guidelens.sampling.options", "guidelens.guidance", "guidelens.errors"],
    ),
    "runs": (
        "Runs and studies",
        ["guidelens.comparison", "guidelens.runs.live", "guidelens.studies.run", "guidelens.studies.results"],
    ),
    "questions": (
        "Claims, metrics, prompts",
        [
            "guidelens.claims.questions",
            "guidelens.claims.conditions",
            "guidelens.claims.evaluate",
            "guidelens.claims.statistics",
            "guidelens.metrics.judge",
            "guidelens.metrics.matrix",
            "guidelens.metrics.distribution",
            "guidelens.prompts",
        ],
    ),
    "contracts": ("Contracts", ["guidelens.contracts"]),
    "hookspecs": ("Hooks", ["guidelens.hookspecs"]),
    "plugins": ("Plugin manager", ["guidelens.plugins.manager", "guidelens.plugins.components"]),
    "diffusion": (
        "Diffusion",
        ["guidelens.diffusion.process", "guidelens.diffusion.samplers", "guidelens.diffusion.noise"],
    ),
    "testing": ("Conformance kit", ["guidelens.testing"]),
    "weights": ("Weights", ["guidelens.weights", "guidelens.weights.registry", "guidelens.weights.store"]),
    "builtin": (
        "Built-in plugins",
        [
            "guidelens_schedules",
            "guidelens_guided_diffusion",
            "guidelens_blip",
            "guidelens_open_clip",
            "guidelens_diffusers",
            "guidelens_transformers",
            "guidelens_worlds.shapes.world",
            "guidelens_worlds.shapes.parse",
            "guidelens_worlds.things.world",
            "guidelens_worlds.things.parse",
        ],
    ),
}
"""Page under reference/api -> its title, and the modules whose public names it documents."""


README = Path(__file__).parents[2] / "README.md"
TABLE = re.compile(r"(<!-- components: .*? -->\n)(.*?)(<!-- end -->)", re.DOTALL)
"""Where README has the table of components."""


def pages() -> dict[str, str]:
    """Return every page of the reference that is made from code: its path in the site, its text."""
    plugins = PluginManager.load()
    api = {f"reference/api/{name}.md": _module_page(*entry) for name, entry in MODULES.items()}
    return {"reference/cli.md": cli_page(plugins), "reference/components.md": components_page(plugins), **api}


def _module_page(title: str, modules: list[str]) -> str:
    return "\n\n".join([f"# {title}", *(f"::: {module}" for module in modules)]) + "\n"


def cli_page(plugins: PluginManager) -> str:
    """Return every command with its help, as ``--help`` prints it."""
    context = click.Context(
        cli, info_name="guidelens", obj=plugins, terminal_width=100, max_content_width=100
    )
    parts = ["# Command line", "What `--help` says of every command, those of the built-in plugins included."]
    for depth, command in _commands(context):
        text = command.command.get_help(command).replace("\b", "")
        parts.append(f"{'#' * min(depth + 1, 4)} {command.command_path}\n\n```text\n{text.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def _commands(context: click.Context, depth: int = 1) -> Iterator[tuple[int, click.Context]]:
    yield depth, context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _commands(click.Context(child, info_name=name, parent=context), depth + 1)


def components_page(plugins: PluginManager) -> str:
    """Return every component of the built-in plugins with its options."""
    parts = [
        "# Components",
        "Everything the built-in plugins offer, by kind. `guidelens plugins show NAME` says the same on a terminal.",
    ]
    for kind in KINDS.values():
        found = [
            (p.name, info) for p in _built_in(plugins) for info in p.components if info.kind == kind.name
        ]
        if found:
            parts.append(f"## {kind.plural.capitalize()}")
            parts += [_component(owner, info) for owner, info in found]
    return "\n\n".join(parts) + "\n"


def components_table(plugins: PluginManager) -> str:
    """Return the names of the built-in components as a table of one row per kind."""
    rows = ["| kind | built in |", "|---|---|"]
    for kind in KINDS.values():
        names = [
            info.name for plugin in _built_in(plugins) for info in plugin.components if info.kind == kind.name
        ]
        rows.append(f"| {kind.plural} | {', '.join(f'`{name}`' for name in dict.fromkeys(names))} |")
    return "\n".join(rows) + "\n"


def _built_in(plugins: PluginManager) -> list[PluginInfo]:
    return [plugin for plugin in plugins.plugins if plugin.source.dist == "guidelens"]


def _component(owner: str, info: ComponentInfo) -> str:
    lines = [
        f"### `{info.name}` {{ #{info.kind}-{info.name} }}",
        "",
        f"{_cell(info.summary)}. Plugin `{owner}`.",
    ]
    if info.options:
        lines += ["", "| option | values | default | |", "|---|---|---|---|"]
        for option in info.options:
            text = option.default_text
            default = "needed" if text is None and option.name != "*" else f"`{text}`" if text else ""
            name = "NAME" if option.name == "*" else option.name
            values = option.type_name.replace("|", " | ")
            cells = [f"`{name}`", _cell(values), _cell(default), _cell(option.help)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Return text for a cell of a table: one line, no bars, nothing taken for a tag."""
    return re.sub(r"\s+", " ", text or "").replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    table = components_table(PluginManager.load())
    README.write_text(TABLE.sub(lambda found: found[1] + table + found[3], text), encoding="utf-8")
