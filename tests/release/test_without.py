"""What works where LAVIS does not install (Python 3.12 and newer) or no extra was asked for; what is said of the rest.

The modules are hidden from a process of the test environment; tests/release/test_installed.py has the real thing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HIDING = """
import sys
from importlib.machinery import PathFinder

HIDDEN = {hidden!r}

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
sys.path[:] = [place for place in sys.path if place]
from guidelens.cli.main import main
main()
"""
RED = Path(__file__).parents[2] / "docs" / "examples" / "guidelens-make-it-red" / "guidelens_make_it_red.py"
LAVIS = ("lavis",)
EXTRAS = ("diffusers", "open_clip", "torchmetrics", "pyarrow", "ray", "fastapi", "uvicorn", "krippendorff")


def guidelens(*args: str, hidden: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GUIDELENS_")}
    command = [sys.executable, "-c", HIDING.format(hidden=hidden), *args]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_plugins_are_listed_without_lavis() -> None:
    done = guidelens("plugins", "list", "--json", hidden=LAVIS)
    assert done.returncode == 0, done.stderr
    plugins = {plugin["name"]: plugin for plugin in json.loads(done.stdout)}
    assert plugins["blip"]["status"] == plugins["shapes"]["status"] == "missing dependency"
    assert "python_version < '3.12'" in plugins["blip"]["message"]
    assert {plugins[name]["status"] for name in ("guided-diffusion", "schedules", "open-clip")} == {"ok"}


def test_the_doctor_says_in_one_line_each_what_needs_lavis() -> None:
    done = guidelens("doctor", "--json", hidden=LAVIS)
    assert done.returncode == 1
    (plugins,) = [section for section in json.loads(done.stdout) if section["title"] == "plugins"]
    assert [hint.partition(":")[0] for hint in plugins["hints"]] == ["blip", "shapes"]
    assert all("salesforce-lavis==1.0.2" in hint for hint in plugins["hints"])


def test_what_needs_lavis_says_so_in_one_line(tmp_path: Path) -> None:
    done = guidelens(
        *("generate", "a red circle", "--schedule", "itc", "--out", str(tmp_path / "x.png")), hidden=LAVIS
    )
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "lavis" in line
    assert "pip install" in line
    assert "python_version < '3.12'" in line


def test_the_embedded_generator_draws_under_another_guide(tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    done = guidelens(
        *("generate", "anything", "-p", str(RED), "--guidance", "red", "--schedule", "objective:name=red"),
        *("--steps", "2", "--out", str(picture)),
        hidden=(*LAVIS, *EXTRAS),
    )
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_extras_that_were_not_asked_for_are_nothing_amiss() -> None:
    done = guidelens("doctor", hidden=EXTRAS)
    assert done.returncode == 0, done.stdout
    assert 'pip install "guidelens[open-clip]"' in done.stdout
    assert 'pip install "guidelens[diffusers]"' in done.stdout
    assert "hint:" not in done.stdout


@pytest.mark.parametrize(
    ("args", "extra"),
    [
        (("bench", "--generator", "diffusers:path=nowhere", "--guidance", "none"), "guidelens[diffusers]"),
        (("bench", "--guidance", "open-clip:model=ViT-B-32"), "guidelens[open-clip]"),
    ],
)
def test_what_is_in_an_extra_names_it(args: tuple[str, ...], extra: str) -> None:
    done = guidelens(*args, hidden=EXTRAS)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert f'pip install "{extra}"' in line
