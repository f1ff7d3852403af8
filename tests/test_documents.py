"""What README and docs say is run: code blocks execute, commands parse against the real command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from guidelens.cli.main import cli, split_plugin_options
from guidelens.plugins import PluginManager

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "plugins").glob("*.md")),
    *sorted((ROOT / "plugins").glob("*/weights/*.md")),
]


def _blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(
        r"^ *```(\w*)\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return [text for language, text in found if language in languages]


def _commands() -> list[str]:
    """Every command line that starts with ``guidelens``: in code blocks, and whole in back-ticks."""
    commands = []
    for page in PAGES:
        for block in _blocks(page, "", "sh", "console"):
            lines = block.replace("\\\n", " ").splitlines()
            commands += [line.strip() for line in lines if line.strip().startswith("guidelens ")]
        commands += re.findall(r"`(guidelens [^`]*)`", page.read_text(encoding="utf-8"))
    return [command for command in commands if "..." not in command and "COMMAND" not in command]


@pytest.mark.parametrize("command", sorted(set(_commands())))
def test_documented_commands_parse(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options and their values are checked by the real parser; nothing is run."""
    monkeypatch.chdir(tmp_path)
    args, requests = split_plugin_options(shlex.split(command, comments=True)[1:])
    context = click.Context(cli, info_name="guidelens", obj=PluginManager.load())
    assert all(request.endswith(".py") for request in requests), "a documented plugin that may not exist"
    node: click.Command = cli
    while isinstance(node, click.Group) and args and not args[0].startswith("-"):
        child = node.get_command(context, args[0])
        assert child is not None, f"no command {args[0]!r}"
        context, node, args = (
            click.Context(child, parent=context, info_name=args[0], obj=context.obj),
            child,
            args[1:],
        )
    if args and not isinstance(node, click.Group):  # a bare name only mentions the command
        node.make_context(node.name or "", args, parent=context.parent)


def test_the_readme_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = _blocks(ROOT / "README.md", "python")
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 50
    assert lines[0].startswith("0.0 ")
    assert lines[-1].startswith("1.0 ")
    assert "'itc'" in lines[0]
    assert "'cap'" in lines[0]


def test_the_plugin_example_is_a_plugin(tmp_path: Path) -> None:
    (block,) = _blocks(ROOT / "docs" / "plugins" / "index.md", "python")
    path = tmp_path / "warmup.py"
    path.write_text(block, encoding="utf-8")
    plugins = PluginManager.load([str(path)])
    schedule = plugins.build("schedule")  # what the file alone offers is the default
    assert schedule.weights(0.0) == {"cap": 1.0}
    assert schedule.weights(1.0) == {"itc": 1.0}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_are_right(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing
