"""What README and docs say is run: code blocks execute, commands parse against the real command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner
from guidelens import Engine
from guidelens.cli.main import cli, split_plugin_options
from guidelens.plugins import PluginManager
from guidelens.sampling import Sampling
from guidelens.testing import TinyGuidanceModel, check_generator, check_schedule

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "examples" not in path.parts),
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


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples one after the other, as they stand, with options appended that make them quick."""
    monkeypatch.chdir(tmp_path)
    mirror = _blocks(ROOT / "docs" / "plugins" / "tutorial.md", "python")[0]
    (tmp_path / "mirror.py").write_text(mirror, encoding="utf-8")
    quick = {
        "compare": ["--steps", "2", "--seeds", "1"],
        "generate": ["--steps", "2"],
        "study run": ["--generator", "tiny:size=32", "--guidance", "tiny", "-p", "guidelens.testing.tiny"],
    }
    section = _section(ROOT / "README.md", "Five examples")
    commands = [shlex.split(line)[1:] for line in _lines(section) if line.startswith("guidelens ")]
    assert len(commands) == 6
    for words in commands:
        more = next((extra for name, extra in quick.items() if " ".join(words).startswith(name)), [])
        done = CliRunner().invoke(cli, [*words, *more])
        assert done.exit_code == 0, (words, done.output)
    made = ["runs/first/index.html", "x.png", "x.webp", "runs/findings-quick/report.html", "mirror.png"]
    assert all((tmp_path / name).is_file() for name in made)


def _section(page: Path, title: str) -> str:
    return page.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _lines(text: str) -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_the_plugin_example_is_a_plugin(tmp_path: Path) -> None:
    (block,) = _blocks(ROOT / "docs" / "plugins" / "index.md", "python")
    path = tmp_path / "warmup.py"
    path.write_text(block, encoding="utf-8")
    plugins = PluginManager.load([str(path)])
    schedule = plugins.build("schedule")  # what the file alone offers is the default
    assert schedule.weights(0.0) == {"cap": 1.0}
    assert schedule.weights(1.0) == {"itc": 1.0}


def test_the_schedule_of_the_how_to(tmp_path: Path) -> None:
    plugins, _ = _as_plugin("howto/schedule.md", tmp_path)
    schedule = plugins.build("schedule", "step:at=0.2")
    assert schedule.weights(0.1) == {"cap": 1.0}
    assert schedule.weights(0.2) == {"itc": 1.0}
    check_schedule(schedule)


def test_the_generator_of_the_how_to(tmp_path: Path) -> None:
    """It keeps the contract, and has the closed form that it claims: samples have its mean and variance."""
    plugins, space = _as_plugin("howto/generator.md", tmp_path, block=0)
    generator = plugins.build("generator")
    check_generator(generator)
    engine = Engine(space["GreyPixels"](m=0.3, v=0.04), None, Sampling(steps=1000))
    images = torch.stack([result.image for result in engine.generate(["x"], None, seeds=range(8))])
    assert images.mean().item() == pytest.approx(0.3, abs=0.02)
    assert images.var().item() == pytest.approx(0.04, rel=0.06)


def test_the_generator_of_latents_of_the_how_to(tmp_path: Path) -> None:
    plugins, _ = _as_plugin("howto/generator.md", tmp_path, block=1)
    generator = plugins.build("generator")
    report = check_generator(generator)
    assert "decode" not in {check.name for check in report.skipped}
    engine = Engine(generator, TinyGuidanceModel(), Sampling(steps=5))
    (result,) = engine.generate("a red circle", "itc", plugins=plugins)
    assert result.image.shape == (3, 16, 16)


def _as_plugin(page: str, folder: Path, block: int | None = None) -> tuple[PluginManager, dict[str, Any]]:
    """Load a Python block of a page (None: its only one) as a plugin, and return its names as well."""
    blocks = _blocks(ROOT / "docs" / page, "python")
    assert block is not None or len(blocks) == 1
    code = blocks[block or 0]
    path = folder / "of_the_page.py"
    path.write_text(code, encoding="utf-8")
    space: dict[str, Any] = {"__name__": "of_the_page"}
    exec(compile(code, page, "exec"), space)
    return PluginManager.load([str(path)]), space


def test_the_page_on_embedding_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its blocks, in order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "embedding"}
    for block in _blocks(ROOT / "docs" / "embedding.md", "python"):
        exec(compile(block, "embedding.md", "exec"), space)
    assert space["half_done"].shape == (2, 3, 32, 32)
    assert (tmp_path / "runs" / "bright" / "index.html").is_file()
    assert "unknown schedule 'shif' (did you mean 'shift'?)" in capsys.readouterr().out


def test_the_page_on_loggers_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "loggers"}
    for block in _blocks(ROOT / "docs" / "loggers.md", "python"):
        exec(compile(block, "loggers.md", "exec"), space)
    assert {path.name for path in Path("runs/tb").iterdir() if path.is_dir()} == {"itc", "shift"}
    assert [path.name for path in Path("runs/engine").iterdir()] == ["shift"]
    assert capsys.readouterr().out.splitlines()[-1] == "done"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page: Path) -> None:
    for number, block in enumerate(_blocks(page, "python")):
        compile(block, f"{page.name}, block {number}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_are_right(page: Path) -> None:
    """Files exist, and have the headings that anchors name."""
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if "://" not in target and (not file.exists() or (anchor and anchor not in _anchors(file))):
            missing.append(target)
    assert not missing


def _prose(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and the site make them."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_table_of_options_is_the_options() -> None:
    """``python -m guidelens.sampling.table docs/guidance.md`` brings it up to date."""
    from guidelens.sampling.table import with_table

    text = (ROOT / "docs" / "guidance.md").read_text(encoding="utf-8")
    assert with_table(text) == text
