"""The shapes world: a small diffusion model, a small BLIP and ground truth, shipped, for everyone.

What this module names is for other worlds: typos, the training of a generator on any pictures, and what commands
share.
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
    from .training.generator import GeneratorTraining, train_generator

_HOME = {
    "GeneratorTraining": "training.generator",
    "misspell": "language",
    "train_generator": "training.generator",
    "JSON_OUT": "command_tools",
    "THREADS": "command_tools",
    "check_init": "command_tools",
    "check_json": "command_tools",
    "check_steps": "command_tools",
    "losses_text": "command_tools",
    "prepare_folder": "command_tools",
    "progress_bar": "command_tools",
    "report": "command_tools",
    "resumable": "command_tools",
    "say": "command_tools",
    "set_threads": "command_tools",
}

__all__ = [
    "JSON_OUT",
    "THREADS",
    "GeneratorTraining",
    "check_init",
    "check_json",
    "check_steps",
    "losses_text",
    "misspell",
    "prepare_folder",
    "progress_bar",
    "report",
    "resumable",
    "say",
    "set_threads",
    "train_generator",
]

# Late: the program loads every plugin at each start, and that imports no torch.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
