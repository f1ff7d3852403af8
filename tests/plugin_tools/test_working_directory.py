"""Nothing in the working directory is imported, or taken for a plugin, unless it was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
from environments import Environment
from plugin_worlds import SCHEDULE, write_distribution, write_module

SCRIPT = Path(sysconfig.get_path("scripts")) / ("guidelens.exe" if os.name == "nt" else "guidelens")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A working directory with modules of known names, a plugin that is "installed" there, and files."""
    names = (
        "json",
        "click",
        "pluggy",
        "rich",
        "guidelens_blip",
        "guidelens_schedules",
        "schedules",
        "lurking",
    )
    for name in names:
        write_module(tmp_path, name, "raise RuntimeError('imported from the working directory')")
    write_module(tmp_path, "plugin", SCHEDULE.format(name="unasked"))
    write_distribution(tmp_path, "lurking", {"lurking": "lurking", "unasked": "plugin"})
    return tmp_path


@pytest.mark.parametrize("way", ["python -m", "console script"])
def test_the_working_directory_is_not_searched(
    way: str, trap: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        if way == "python -m":
            return environment.guidelens(*arguments, cwd=trap, check=False)
        if not SCRIPT.is_file():
            pytest.skip("guidelens is not installed with its script")
        return subprocess.run(
            [str(SCRIPT), *arguments], capture_output=True, text=True, cwd=trap, timeout=120, check=False
        )

    for name in ("PYTHONPATH", "GUIDELENS_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    listed = run("plugins", "list", "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    found = {plugin["name"]: plugin["status"] for plugin in json.loads(listed.stdout)}
    assert found["schedules"] == "ok"
    assert found.keys().isdisjoint({"lurking", "unasked", "plugin"})
    assert run("--help").returncode == 0

    # Asked for as a module it is not found either; as a file it is.
    module = run("-p", "plugin", "plugins", "list")
    assert module.returncode == 2
    assert "for the file write -p plugin.py" in module.stderr
    asked = run("-p", "plugin.py", "plugins", "show", "unasked")
    assert asked.returncode == 0, asked.stderr
    assert "schedule unasked" in asked.stdout


def test_a_folder_on_the_path_that_is_also_the_working_directory_stays(
    environment: Environment, tmp_path: Path
) -> None:
    """Only what ``-m`` itself puts in front is taken away, not what the user put on the path."""
    write_module(tmp_path, "acme_wanted", SCHEDULE.format(name="wanted"))
    done = environment.guidelens(
        "-p", "acme_wanted", "plugins", "show", "wanted", cwd=tmp_path, PYTHONPATH=str(tmp_path)
    )
    assert "schedule wanted" in done.stdout
