"""BLIP's three objectives (ITC, ITM, CAP) as a guidelens guidance model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .captions import clean_caption
    from .checkpoint import load_model, save_blip
    from .config import PRESETS, BlipConfig
    from .guidance import BlipGuidance, BlipOptions, load_blip
    from .network import Blip, build_blip
    from .tokenizer import WordPiece

_HOME = {
    "PRESETS": "config",
    "Blip": "network",
    "BlipConfig": "config",
    "BlipGuidance": "guidance",
    "BlipOptions": "guidance",
    "WordPiece": "tokenizer",
    "build_blip": "network",
    "clean_caption": "captions",
    "load_blip": "guidance",
    "load_model": "checkpoint",
    "save_blip": "checkpoint",
}

__all__ = [
    "PRESETS",
    "Blip",
    "BlipConfig",
    "BlipGuidance",
    "BlipOptions",
    "WordPiece",
    "build_blip",
    "clean_caption",
    "load_blip",
    "load_model",
    "save_blip",
]

# Imported on first use: the program loads every plugin at each start, which must not import torch.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
