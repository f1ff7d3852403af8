"""Shell completion: commands, components and plugins of the line being completed, and never a sound."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from guidelens.cli.completion import Bash
from guidelens.cli.main import cli
from plugin_worlds import SCHEDULE, write_distribution, write_module

PLUGIN = (
    """
    print("a plugin that talks")
"""
    + SCHEDULE.format(name="mine")
    + """
    @hookimpl
    def register_commands(cli):
        @cli.command()
        def minecommand(): ...
"""
)


def ask(
    line: str, *, shell: str = "zsh", path: Path | None = None, cwd: Path | None = None, **env: str
) -> list[str]:
    """Return what is offered at the end of ``line``; a space at its end starts a new word."""
    words = line.split()
    position = len(words) if line.endswith(" ") else len(words) - 1
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GUIDELENS_")}
    environment |= {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(position)}
    environment |= {"_GUIDELENS_COMPLETE": f"{shell}_complete", **env}
    environment |= {"PYTHONPATH": str(path)} if path is not None else {}
    code = "import sys; sys.path[:] = [p for p in sys.path if p]; from guidelens.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    if shell == "zsh":
        return [value.replace("\\:", ":") for value in done.stdout.splitlines()[1::3]]
    return [row.partition(",")[2] for row in done.stdout.splitlines()]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write_module(tmp_path, "mine", PLUGIN)


def test_commands() -> None:
    assert {"compare", "generate", "plugins", "install", "shapes"} <= set(ask("guidelens "))
    assert ask("guidelens plugins n") == ["new"]


def test_components_of_every_option() -> None:
    assert ask("guidelens generate --schedule sh") == ["shift"]
    assert ask("guidelens compare --schedule sh") == ["shift"]
    assert {"guided-diffusion", "shapes", "things"} <= set(ask("guidelens compare --generator "))
    assert "shapes" in ask("guidelens compare --guidance ")
    assert ask("guidelens compare --metric sh") == ["shapes"]
    assert ask("guidelens compare --prompts sh") == ["shapes", "shapes-pairs"]
    assert ask("guidelens compare --schedule schedules/s") == ["schedules/shift"]
    assert ask("guidelens plugins show sched") == ["schedules"]


def test_options_of_components() -> None:
    assert ask("guidelens compare --schedule shift:") == ["shift:start=", "shift:end="]
    assert ask("guidelens compare --schedule shift:start=itc,") == ["shift:start=itc,end="]
    assert ask("guidelens compare --guidance shapes:variant=c") == ["shapes:variant=clean"]
    assert ask("guidelens compare --guidance shapes:nothing=c") == []
    assert ask("guidelens compare --guidance nothing:") == []


@pytest.mark.parametrize(
    "line",
    [
        "guidelens -p ./mine.py generate --schedule mi",
        "guidelens generate -p ./mine.py --schedule mi",
        "guidelens generate --plugin=./mine.py --schedule mi",
    ],
)
def test_a_plugin_on_the_line_is_loaded(line: str, mine: Path) -> None:
    assert ask(line, cwd=mine.parent) == ["mine"]


def test_commands_of_a_plugin_on_the_line_and_in_the_environment(mine: Path) -> None:
    assert ask("guidelens -p ./mine.py mi", cwd=mine.parent) == ["minecommand"]
    assert ask("guidelens mi", GUIDELENS_PLUGINS=str(mine)) == ["minecommand"]
    assert ask("guidelens mi") == []


def test_an_installed_plugin(tmp_path: Path) -> None:
    write_module(tmp_path, "acme_lens", PLUGIN)
    write_distribution(tmp_path, "acme-lens", {"acme": "acme_lens"})
    assert ask("guidelens generate --schedule mi", path=tmp_path) == ["mine"]
    assert ask("guidelens -p ac", path=tmp_path) == ["ac", "acme"]  # the first stands for files
    assert ask("guidelens -p no:ac", path=tmp_path) == ["no:acme"]
    assert ask("guidelens -p no:acme generate --schedule mi", path=tmp_path) == []


@pytest.mark.parametrize(
    "line",
    [
        "guidelens -p nothing-of-the-sort generate --schedule sh",
        "guidelens -p ./broken.py generate --schedule sh",
        "guidelens -p no:nothing generate --schedule sh",
    ],
)
def test_faults_are_silent_and_leave_the_rest(line: str, tmp_path: Path) -> None:
    write_module(tmp_path, "broken", "raise RuntimeError('loud')")
    assert ask(line, cwd=tmp_path) == ["shift"]
    write_distribution(tmp_path, "acme-broken", {"broken": "broken"})
    assert ask(line, cwd=tmp_path, path=tmp_path, GUIDELENS_PLUGINS="nothing") == ["shift"]
    assert ask("guidelens nothing --sch", cwd=tmp_path) == []


def test_failing_commands_are_silent_too(tmp_path: Path) -> None:
    source = (
        f"{SCHEDULE.format(name='mine')}\n    @hookimpl\n    def register_commands(cli):\n        1 / 0\n"
    )
    write_module(tmp_path, "acme_half", source)
    assert ask("guidelens -p ./acme_half.py generate --schedule mi", cwd=tmp_path) == ["mine"]
    write_distribution(tmp_path, "acme-half", {"half": "acme_half"})
    assert ask("guidelens generate --schedule mi", path=tmp_path) == ["mine"]
    assert "plugins" in ask("guidelens p", path=tmp_path)


@pytest.mark.parametrize(
    ("words", "cword", "args", "incomplete", "item", "shown"),
    [
        # Bash takes : and = for words, and replaces what follows the last one.
        ("g c --schedule shift : st", 5, "c --schedule", "shift:st", "shift:start=", "start="),
        ("g c --schedule shift :", 4, "c --schedule", "shift:", "shift:start=", "start="),
        ("g c --schedule = shift : st", 6, "c", "--schedule=shift:st", "shift:start=", "start="),
        ("g c --schedule = sh", 4, "c", "--schedule=sh", "shift", "shift"),
        ("g c --schedule =", 3, "c", "--schedule=", "shift", "shift"),
        ("g -p no : blip c --schedule sh", 7, "-p no:blip c --schedule", "sh", "shift", "shift"),
        ("g -p no : bl", 4, "-p", "no:bl", "no:blip", "blip"),
        ("g c --schedule", 3, "c --schedule", "", "shift", "shift"),
        ("g c --schedule sh", 3, "c --schedule", "sh", "shift", "shift"),
        ("g c --schedule a:b", 3, "c --schedule", "a:b", "a:bc", "a:bc"),  # not broken, not shortened
    ],
)
def test_bash_words(
    words: str, cword: int, args: str, incomplete: str, item: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.shell_completion import CompletionItem

    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(cword))
    shell = Bash(cli, {}, "guidelens", "_GUIDELENS_COMPLETE")
    assert shell.get_completion_args() == (args.split(), incomplete)
    assert shell.format_completion(CompletionItem(item)) == f"plain,{shown}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_script_works_in_bash(tmp_path: Path) -> None:
    """The function that the script defines, called as bash calls it."""
    code = "import sys; from guidelens.cli.main import main; main()"
    wrapper = tmp_path / "guidelens"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    wrapper.chmod(0o755)
    script = """
        eval "$(guidelens completion bash)"
        COMP_WORDS=(guidelens compare --schedule shift : e); COMP_CWORD=5
        _guidelens_completion guidelens e : 2>/dev/null
        echo "${COMPREPLY[@]}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "end=", done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert f"_GUIDELENS_COMPLETE={shell}_complete" in done.stdout
    assert " guidelens" in done.stdout
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2
