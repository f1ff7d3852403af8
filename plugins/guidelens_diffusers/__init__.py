"""Models of the diffusers library for guidelens: unconditional ``UNet2DModel`` pipelines as generators."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    # Lazy, so that listing plugins imports neither torch nor diffusers.
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
