"""Studies of a world small enough for tests, and what their files should hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tiny world

import brittle_world
import tiny_world
from guidelens.studies.prompts import Perturbed

TOY = """
name = "toy"
guidance = "brittle"
schedules = ["only-itc", "turn"]
metrics = ["brightness"]
prompts = ["a red circle", "a dot above a line"]
seeds = 2
batch_size = 3
device = "cpu"
snapshots = 2

[[grid]]
name = "steps"
steps = [3, 4]

[[grid]]
name = "through"
steps = 4
options = { through = ["unet", "x0"] }
"""
"""24 cells: 16 in each grid, of which 8 are in both."""

EXPLOSIVE = TOY.replace('"a dot above a line"]', '"explode", "a dot above a line"]')
"""The same, and 12 cells that fail."""

TOY_PLUGINS = (tiny_world.__file__, brittle_world.__file__)


class Typo:
    """Stands for a library of perturbations: drops the last letter as often as it is told to."""

    def __init__(self, text: str, edits: int) -> None:
        self.text, self.edits = text, edits


def drop_letters(text: str, spec: str, seed: int) -> Perturbed:
    name, _, edits = spec.partition(":edits=")
    assert name == "typo"
    return Typo(text[: len(text) - int(edits)], int(edits)) if "rain" not in text else Typo(text, 0)


def snapshot(directory: Path) -> dict[str, Any]:
    """All files of a run byte for byte, but for the seconds."""
    files: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name == "results.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            files[path.name] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
        elif path.is_file():
            files[path.relative_to(directory).as_posix()] = path.read_bytes()
    return files


def rows_of(directory: Path, name: str = "results.jsonl") -> list[dict[str, Any]]:
    path = directory / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
