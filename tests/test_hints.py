"""Hints for near misses: a part of a name, a file in place of a component, a seed in place of a number of seeds."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from guidelens import PluginManager
from guidelens.cli.main import cli
from guidelens.cli.paths import UserPath
from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.plugins.spelling import nearest
from guidelens.prompts import read_prompts
from guidelens.seeds import MAX_SEEDS, parse_seeds


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load(environment={})


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        ("guidance", "clip", "did you mean 'open-clip'"),
        ("guidance", "CLIP", "did you mean 'open-clip'"),
        ("guidance", "openclip", "did you mean 'open-clip'"),
        ("guidance", "classifier", "did you mean 'noisy-classifier'"),
        ("metric", "clip", "did you mean 'clip-score'"),
    ],
)
def test_a_part_of_a_name_finds_it(plugins: PluginManager, kind: str, text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        plugins.resolve(kind, text)


def test_an_ambiguous_part_is_no_hint() -> None:
    assert nearest("a", ["a-x", "a-y"]) is None
    assert nearest("x", ["a-x", "a-y"]) == "a-x"


def test_a_file_says_how_it_is_spelled(
    plugins: PluginManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.csv", "x.pt"):
        Path(name).touch()
    with pytest.raises(UsageError, match=r"'mine.csv'; it is a file here: write file:path=mine.csv$"):
        plugins.resolve("prompts", "mine.csv")
    with pytest.raises(UsageError, match=r"it is a file here: write .*guided-diffusion:checkpoint=x.pt"):
        plugins.resolve("generator", "x.pt")
    with pytest.raises(UsageError, match=r"it is a file here: write .*open-clip:checkpoint=x.pt"):
        plugins.resolve("guidance", "x.pt")
    with pytest.raises(UsageError, match=r"unknown generator 'y\.pt'; choose"):
        plugins.resolve("generator", "y.pt")


def test_a_large_number_of_seeds_is_a_seed() -> None:
    with pytest.raises(UsageError, match="for the one seed 3012672161 write 3012672161-3012672161"):
        parse_seeds("3012672161")
    assert parse_seeds("3012672161-3012672161") == (3012672161,)
    assert len(parse_seeds(str(MAX_SEEDS))) == MAX_SEEDS
    with pytest.raises(UsageError, match="the number of seeds must be from 1 to") as caught:
        parse_seeds("9" * 5000)
    assert len(str(caught.value)) < 200
    with pytest.raises(UsageError):
        parse_seeds("0," + "9" * 5000)


def test_a_tilde_is_home_in_options_and_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.txt").write_text("a red circle\n")

    @click.command()
    @click.option("--out", type=UserPath(path_type=Path))
    @click.argument("source", type=UserPath(path_type=Path, exists=True))
    def command(out: Path, source: Path) -> None:
        click.echo(f"{out} {source}")

    done = CliRunner().invoke(command, ["--out=~/runs", "~/mine.txt"])
    assert done.output == f"{tmp_path}/runs {tmp_path}/mine.txt\n"
    assert read_prompts("~/mine.txt") == [Prompt("a red circle")]


def test_every_path_of_a_command_knows_the_tilde() -> None:
    """All commands, the plugins' included: no plain ``click.Path``."""
    context = click.Context(cli, info_name="guidelens", obj=PluginManager.load(environment={}))
    plain, seen = [], 0

    def walk(command: click.Command, name: str) -> None:
        nonlocal seen
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                seen += 1
                if not isinstance(parameter.type, UserPath):
                    plain.append(f"{name} {parameter.name}")
        if isinstance(command, click.Group):
            for part in command.list_commands(context):
                child = command.get_command(context, part)
                assert child is not None
                walk(child, f"{name} {part}")

    walk(cli, "guidelens")
    assert seen > 20
    assert plain == []
