"""The shapes world: a small diffusion model, a small BLIP and ground truth, shipped, for everyone.

What this module names is for other plugins: the training of a generator, which takes any world's pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .training.generator import GeneratorTraining, train_generator

_HOME = {
    "GeneratorTraining": "training.generator",
    "train_generator": "training.generator",
}

__all__ = ["GeneratorTraining", "train_generator"]

# Late: the program loads every plugin at each start, and that imports no torch.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
