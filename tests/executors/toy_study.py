"""A study of the tiny world, and how to compare what it left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import brittle_world
import tiny_world

TOY = """
name = "toy"
generator = "tiny"
guidance = "brittle"
schedules = ["only-itc", "turn"]
metrics = ["brightness"]
prompts = ["a red circle", "explode", "a dot above a line"]
seeds = 2
batch_size = 4
device = "cpu"
snapshots = 2
steps = [3, 4]
"""
"""24 cells, 8 of which fail; their batches come apart, so that the others give what they always give."""

TOY_PLUGINS = (tiny_world.__file__, brittle_world.__file__)


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
