"""guided-diffusion for guidelens: OpenAI's networks and checkpoints, as generators and as guidance."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .description import Description, from_classifier_script, from_script
from .flags import EncoderFlags, UNetFlags
from .presets import CLASSIFIERS, PRESETS, ClassifierPreset, Preset

if TYPE_CHECKING:
    from .classifier import NoisyClassifierGuidance
    from .encoder import EncoderUNet
    from .generator import GuidedDiffusionGenerator, load_generator, save_generator
    from .unet import SuperResUNet, UNet

_LAZY = {
    "EncoderUNet": "encoder",
    "GuidedDiffusionGenerator": "generator",
    "NoisyClassifierGuidance": "classifier",
    "SuperResUNet": "unet",
    "UNet": "unet",
    "load_generator": "generator",
    "save_generator": "generator",
}

__all__ = [
    "CLASSIFIERS",
    "PRESETS",
    "ClassifierPreset",
    "Description",
    "EncoderFlags",
    "EncoderUNet",
    "GuidedDiffusionGenerator",
    "NoisyClassifierGuidance",
    "Preset",
    "SuperResUNet",
    "UNet",
    "UNetFlags",
    "from_classifier_script",
    "from_script",
    "load_generator",
    "save_generator",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that listing plugins imports no torch.
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
