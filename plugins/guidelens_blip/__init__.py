"""BLIP's three objectives (ITC, ITM, CAP) as a guidelens guidance model, on LAVIS's ``BlipPretrain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .architecture import PRESETS, BlipConfig, build_blip
    from .checkpoint import load_model, save_blip
    from .guidance import BlipGuidance, BlipOptions, load_blip

_HOME = {
    "PRESETS": "architecture",
    "BlipConfig": "architecture",
    "build_blip": "architecture",
    "load_model": "checkpoint",
    "save_blip": "checkpoint",
    "BlipGuidance": "guidance",
    "BlipOptions": "guidance",
    "load_blip": "guidance",
}

__all__ = [
    "PRESETS",
    "BlipConfig",
    "BlipGuidance",
    "BlipOptions",
    "build_blip",
    "load_blip",
    "load_model",
    "save_blip",
]

# Late: the program loads every plugin at each start, and that imports neither torch nor LAVIS.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
