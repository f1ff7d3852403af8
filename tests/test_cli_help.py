"""The help of every command: whole summaries, stated defaults, and pages that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from guidelens.cli.main import cli
from guidelens.plugins import PluginManager

ROOT = Path(__file__).parents[1]


def commands(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below ``group``, groups included, with its path."""
    context = click.Context(group, obj=PluginManager.load())
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands())
OURS = {path: command for path, command in COMMANDS.items() if path[0] not in ("shapes", "things", "survey")}


def help_of(path: tuple[str, ...]) -> str:
    """Return the help of a command on a terminal of 80 columns."""
    result = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("path", [(), *COMMANDS], ids=" ".join)
def test_no_summary_is_cut(path):
    for paragraph in help_of(path).split("\n\n"):
        for line in paragraph.splitlines() if paragraph.startswith("Commands") else ():
            assert not line.endswith("..."), line


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_summary_is_one_sentence(path):
    summary = COMMANDS[path].get_short_help_str(limit=1_000)
    assert summary.endswith(".")
    assert len(summary) <= 90


@pytest.mark.parametrize("path", OURS, ids=" ".join)
def test_every_value_has_its_default_stated(path):
    """The default in words or digits: no tuple of Python's, and no owner in place of the value."""
    command = OURS[path]
    context = click.Context(command, obj=PluginManager.load())
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if not isinstance(parameter, click.Option) or record is None:
            continue
        assert not re.search(r"default: (\(|the plugin's|None)", record[1]), record
        takes_a_value = not (parameter.is_flag or parameter.count or parameter.is_eager)
        if takes_a_value and not parameter.required and parameter.name != "plugin":
            assert "default: " in record[1], f"{' '.join(path)} {parameter.opts[0]}: {record[1]}"


def test_pages_exist():
    named = {page for path in COMMANDS for page in re.findall(r"docs/[\w/.-]+\.md", help_of(path))}
    assert {"docs/guidance.md", "docs/studies.md"} <= named
    assert [page for page in named if not (ROOT / page).is_file()] == []


def test_one_name_for_a_number_of_prompts():
    flags = {flag for command in COMMANDS.values() for each in command.params for flag in each.opts}
    assert "--limit" in flags
    assert not flags & {"-n", "--n", "--number"}
