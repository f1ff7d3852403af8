"""How a picture is drawn: the options, their presets, and the spelling of steps. Does not load torch."""

from __future__ import annotations

from .fields import NONE, Option
from .options import AUGMENTATIONS, Sampling, options, progress_of
from .presets import PRESETS, Preset, find_preset
from .steps import join_steps, split_steps

__all__ = [
    "AUGMENTATIONS",
    "NONE",
    "PRESETS",
    "Option",
    "Preset",
    "Sampling",
    "find_preset",
    "join_steps",
    "options",
    "progress_of",
    "split_steps",
]
