"""The shapes world: a small diffusion model, a small BLIP and ground truth, included in guidelens.

This module exports what other worlds use: typos, the training of a generator and of a BLIP, and helpers for commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .command_tools import (
        JSON_OUT,
        THREADS,
        check_init,
        check_json,
        check_steps,
        losses_text,
        prepare_folder,
        progress_bar,
        report,
        resumable,
        say,
        set_threads,
    )
    from .language import misspell
    from .training.blip import BlipTraining, train_blip
    from .training.blip_world import BlipWorld, Pairs
    from .training.generator import GeneratorTraining, train_generator
    from .training.x0 import X0Set, predict_x0_set

_HOME = {
    "BlipTraining": "training.blip",
    "BlipWorld": "training.blip_world",
    "GeneratorTraining": "training.generator",
    "JSON_OUT": "command_tools",
    "Pairs": "training.blip_world",
    "THREADS": "command_tools",
    "X0Set": "training.x0",
    "check_init": "command_tools",
    "check_json": "command_tools",
    "check_steps": "command_tools",
    "losses_text": "command_tools",
    "misspell": "language",
    "predict_x0_set": "training.x0",
    "prepare_folder": "command_tools",
    "progress_bar": "command_tools",
    "report": "command_tools",
    "resumable": "command_tools",
    "say": "command_tools",
    "set_threads": "command_tools",
    "train_blip": "training.blip",
    "train_generator": "training.generator",
}

__all__ = [
    "JSON_OUT",
    "THREADS",
    "BlipTraining",
    "BlipWorld",
    "GeneratorTraining",
    "Pairs",
    "X0Set",
    "check_init",
    "check_json",
    "check_steps",
    "losses_text",
    "misspell",
    "predict_x0_set",
    "prepare_folder",
    "progress_bar",
    "report",
    "resumable",
    "say",
    "set_threads",
    "train_blip",
    "train_generator",
]

# Imported on first use: the program loads every plugin at each start, which must not import torch.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
