"""Models of the diffusers library for guidelens: unconditional ``UNet2DModel`` pipelines as generators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .conversion import as_unet2d_model, conversion_problems
    from .generator import DiffusersGenerator, load_generator
    from .process import TrainingProcess, training_process

__all__ = [
    "DiffusersGenerator",
    "TrainingProcess",
    "as_unet2d_model",
    "conversion_problems",
    "load_generator",
    "training_process",
]

_HOME = {
    "DiffusersGenerator": "generator",
    "TrainingProcess": "process",
    "as_unet2d_model": "conversion",
    "conversion_problems": "conversion",
    "load_generator": "generator",
    "training_process": "process",
}

# Late: the program loads every plugin at each start, and that imports neither torch nor diffusers.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
