"""The files that are included in the shapes world."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
VOCAB = WEIGHTS / "vocab.txt"
GENERATOR = WEIGHTS / "generator.safetensors"
BLIP = WEIGHTS / "blip.safetensors"
BLIP_CLEAN = WEIGHTS / "blip-clean.safetensors"
