"""The files that are included in the things world."""

from __future__ import annotations

from pathlib import Path

from ..files import WorldFiles

FILES = WorldFiles(Path(__file__).parent / "weights", default_scales={"itc": 600.0, "itm": 30.0, "cap": 60.0})
