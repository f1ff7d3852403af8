"""guided-diffusion for guidelens: OpenAI's networks and checkpoints, as generators and as guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

from .description import Description, from_classifier_script, from_script
from .flags import EncoderFlags, UNetFlags
from .presets import CLASSIFIERS, PRESETS, ClassifierPreset, Preset

if TYPE_CHECKING:
    from .classifier import NoisyClassifierGuidance
    from .encoder import EncoderUNet
    from .generator import GuidedDiffusionGenerator, load_generator, save_generator
    from .unet import SuperResUNet, UNet

_HOME = {
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

# Imported on first use: the program loads every plugin at each start, which must not import torch.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
