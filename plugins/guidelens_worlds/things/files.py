"""The files that are included in the things world."""

from __future__ import annotations

from pathlib import Path

from ..files import WorldFiles

FILES = WorldFiles(world="things", vocab=Path(__file__).parent / "vocab" / "vocab.txt")
