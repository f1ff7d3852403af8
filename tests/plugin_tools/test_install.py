"""`guidelens install` and `uninstall`: into the environment that guidelens runs in, and what came of it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from environments import OFFLINE, Environment
from guidelens.cli.main import cli
from guidelens.errors import GuidelensError
from guidelens.plugins import packages
from guidelens.plugins.packages import Package
from guidelens.scaffold import write_package

BARE = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "acme-bare"
version = "2.0"
"""


def write_bare(folder: Path) -> Path:
    """Write a package without a plugin."""
    (folder / "acme_bare").mkdir(parents=True)
    (folder / "acme_bare" / "__init__.py").write_text("")
    (folder / "pyproject.toml").write_text(BARE)
    return folder


@pytest.mark.slow
def test_a_package_comes_and_goes(environment: Environment, tmp_path: Path) -> None:
    write_package("acme-turn", "schedule", tmp_path / "turn")
    write_bare(tmp_path / "bare")
    for name in ("json", "pip", "click"):  # the working directory is searched by nobody
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported from the working directory')")
    done = environment.guidelens("install", "-e", "turn", "./bare", *OFFLINE, cwd=tmp_path)
    told = "acme-bare 2.0 is installed; it offers no guidelens plugin\nacme-turn 0.1.0: plugin acme-turn\n"
    assert done.stdout.endswith(f"{told}  schedule: acme-turn\n")

    listed = json.loads(environment.guidelens("plugins", "list", "--json").stdout)
    assert [p["status"] for p in listed if p["name"] == "acme-turn"] == ["ok"]
    # It is in place: what changes in the folder changes the plugin. What is there already is told again.
    plugin = tmp_path / "turn" / "src" / "acme_turn" / "plugin.py"
    plugin.write_text("raise RuntimeError('half done')")
    again = environment.guidelens("install", "acme-turn", *OFFLINE, cwd=tmp_path)
    assert again.stdout.endswith("acme-turn 0.1.0: plugin acme-turn\n")
    assert "warning: plugin 'acme-turn' failed to load: RuntimeError: half done" in again.stderr

    gone = environment.guidelens("uninstall", "acme_turn", "acme-bare", "-y")
    assert gone.stdout.startswith("acme-turn 0.1.0 (with the plugin acme-turn)\nacme-bare 2.0 (no plugin)\n")
    assert "acme-turn" not in environment.guidelens("plugins", "list").stdout
    assert environment.guidelens("uninstall", "acme-turn", check=False).returncode == 2


def test_what_fails_says_so(environment: Environment, tmp_path: Path) -> None:
    done = environment.guidelens("install", "acme-of-nowhere", *OFFLINE, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("error: pip install failed with exit code 1; it says why above\n")
    assert "No matching distribution found for acme-of-nowhere" in done.stderr


# -- without running pip


class Pip:
    """Takes the place of pip: notes its commands, and installs nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, returncode: int = 0) -> None:
        self.commands: list[list[str]] = []
        self.returncode = returncode
        self._real = subprocess.run
        monkeypatch.setattr(packages.subprocess, "run", self)

    def __call__(self, command: list[str], **options: object) -> object:
        if packages._LIST_PLUGINS in command:  # the look at what is installed afterwards
            return self._real(command, **options)  # type: ignore[call-overload]
        self.commands.append(command)
        return subprocess.CompletedProcess(command, self.returncode)


def test_pip_is_that_of_this_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pip = Pip(monkeypatch)
    done = CliRunner().invoke(
        cli, ["install", "-U", "--pre", "click", "-e", str(tmp_path), "--", "--index-url", "x", "-q"]
    )
    assert done.exit_code == 0, done.output
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-c", packages._RUN_PIP, "install"]
    assert command[5:] == ["--upgrade", "--pre", "click", "--index-url", "x", "-q", "-e", str(tmp_path)]
    assert "click" in done.stdout
    assert "offers no guidelens plugin" in done.stdout


def test_uv_stands_in_for_a_pip_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(monkeypatch)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
    monkeypatch.setattr(packages.shutil, "which", lambda name: "/opt/uv" if name == "uv" else None)
    packages.install(["thing"])
    packages.uninstall(["thing"])
    assert pip.commands == [
        ["/opt/uv", "pip", "install", "--python", sys.executable, "thing"],
        ["/opt/uv", "pip", "uninstall", "--python", sys.executable, "thing"],
    ]
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(GuidelensError, match=r"has no pip, and uv is not installed .* -m ensurepip"):
        packages.install(["thing"])
    assert len(pip.commands) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["install"], "name a package to install, or a folder with -e"),
        (["install", "--", "-q"], "name a package to install"),
        (["uninstall", "clikc"], "no package 'clikc' is installed (did you mean 'click'?)"),
        (["uninstall", "GuideLens"], "that would remove guidelens itself"),
        (["uninstall", "schedules"], "'schedules' is a plugin of the package 'guidelens'"),
    ],
)
def test_refusals(args: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(monkeypatch)
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {message}")
    assert not pip.commands


def test_uninstall_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(monkeypatch)
    refused = CliRunner().invoke(cli, ["uninstall", "click"], input="n\n")
    assert (refused.exit_code, pip.commands) == (1, [])
    agreed = CliRunner().invoke(cli, ["uninstall", "click"], input="y\n")
    assert agreed.exit_code == 0
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-c", packages._RUN_PIP, "uninstall"]
    assert command[4:] == ["--disable-pip-version-check", "--yes", "click"]


def test_a_failure_of_pip_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    Pip(monkeypatch, returncode=3)
    with pytest.raises(GuidelensError, match="pip uninstall failed with exit code 3"):
        packages.uninstall(["thing"])


def test_which_packages_were_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    here = Package("Here", "1", tmp_path / "here")
    before = {"same": Package("same", "1"), "old": Package("old", "1")}
    after = {
        "same": before["same"],
        "old": Package("old", "2"),
        "here": here,
        "came-along": Package("Came_Along", "1"),
    }
    monkeypatch.setattr(packages, "installed", lambda: after)
    named, others = packages.touched([str(tmp_path / "here"), "Same[extra]>=1"], before)
    assert named == [here, after["same"]]
    assert others == [after["old"], after["came-along"]]
    assert packages.touched(["git+https://example.org/x"], before)[0] == []


def test_guidelens_that_does_not_start_any_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_LIST_PLUGINS", "raise ImportError('click is gone')")
    with pytest.raises(GuidelensError, match="no longer starts: ImportError: click is gone"):
        packages.plugins_now()
