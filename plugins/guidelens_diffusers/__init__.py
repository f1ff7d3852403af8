"""Models of the diffusers library for guidelens: pipelines of pixels and of latents as generators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .conversion import as_unet2d_model, conversion_problems
    from .decoder import LatentDecoder
    from .generator import DiffusersGenerator
    from .loading import load_generator
    from .process import TrainingProcess, training_process
    from .text import empty_prompt

__all__ = [
    "DiffusersGenerator",
    "LatentDecoder",
    "TrainingProcess",
    "as_unet2d_model",
    "conversion_problems",
    "empty_prompt",
    "load_generator",
    "training_process",
]

_HOME = {
    "DiffusersGenerator": "generator",
    "LatentDecoder": "decoder",
    "TrainingProcess": "process",
    "as_unet2d_model": "conversion",
    "conversion_problems": "conversion",
    "empty_prompt": "text",
    "load_generator": "loading",
    "training_process": "process",
}

# Imported on first use: the program loads every plugin at each start, which must not import torch or diffusers.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
