"""What works without LAVIS or where no extra was asked for, and what the errors say of the rest.

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
WEIGHTS = RED.parents[3] / "plugins" / "guidelens_worlds" / "shapes" / "weights"
BLIP, VOCAB = WEIGHTS / "blip.safetensors", WEIGHTS / "vocab.txt"
LAVIS = ("lavis",)
EXTRAS = ("diffusers", "transformers", "torchmetrics", "pyarrow", "ray", "fastapi", "uvicorn", "krippendorff")


def guidelens(*args: str, hidden: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GUIDELENS_")}
    command = [sys.executable, "-c", HIDING.format(hidden=hidden), *args]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_nothing_is_missing_without_lavis() -> None:
    done = guidelens("doctor", "--json", hidden=LAVIS)
    assert done.returncode == 0, done.stdout
    listed = guidelens("plugins", "list", "--json", hidden=LAVIS)
    assert {plugin["status"] for plugin in json.loads(listed.stdout)} == {"ok"}


def test_the_demo_world_is_guided_without_lavis_and_transformers(tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    done = guidelens(
        *("generate", "a red circle", "--schedule", "itc", "--steps", "2", "--out", str(picture)),
        hidden=(*LAVIS, "transformers", "timm"),
    )
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_lavis_backend_says_in_one_line_what_it_needs(tmp_path: Path) -> None:
    done = guidelens(
        *("generate", "a red circle", "--schedule", "itc", "--out", str(tmp_path / "x.png")),
        *("--guidance", f"blip:checkpoint={BLIP},vocab={VOCAB},backend=lavis"),
        hidden=LAVIS,
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "backend=lavis needs salesforce-lavis, which installs on Python 3.10 and 3.11" in line


def test_the_embedded_generator_draws_under_another_guide(tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    done = guidelens(
        *("generate", "anything", "-p", str(RED), "--guidance", "red", "--schedule", "objective:name=red"),
        *("--steps", "2", "--out", str(picture)),
        hidden=(*LAVIS, *EXTRAS),
    )
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_missing_extras_are_not_a_problem() -> None:
    done = guidelens("doctor", hidden=EXTRAS)
    assert done.returncode == 0, done.stdout
    assert "optional, not installed guidelens" in done.stdout
    assert 'pip install "guidelens[diffusers]"' in done.stdout
    assert "hint:" not in done.stdout


@pytest.mark.parametrize(
    ("args", "extra"),
    [
        (("bench", "--generator", "diffusers:path=nowhere", "--guidance", "none"), "guidelens[diffusers]"),
        (("bench", "--guidance", "open-clip:model=ViT-B-16-SigLIP,checkpoint=x.pt"), "guidelens[open-clip]"),
        (("bench", "--guidance", "hf:model=nowhere"), "guidelens[transformers]"),
        (("explore", "--no-open"), "guidelens[explore]"),
    ],
)
def test_what_is_in_an_extra_names_it(args: tuple[str, ...], extra: str) -> None:
    done = guidelens(*args, hidden=EXTRAS)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert f'pip install "{extra}"' in line
