"""The files that are included in the shapes world."""

from __future__ import annotations

from pathlib import Path

from ..files import WorldFiles

WEIGHTS = Path(__file__).parent / "weights"
FILES = WorldFiles(
    world="shapes",
    vocab=WEIGHTS / "vocab.txt",
    generator=WEIGHTS / "generator.safetensors",
    blip=WEIGHTS / "blip.safetensors",
    blip_clean=WEIGHTS / "blip-clean.safetensors",
    default_scales={"itc": 500.0, "itm": 15.0, "cap": 60.0},
)
