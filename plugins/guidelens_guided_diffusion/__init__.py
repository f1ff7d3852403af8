"""guided-diffusion for guidelens: OpenAI's UNet and its checkpoints as generators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .flags import UNetFlags
from .presets import PRESETS, Preset

if TYPE_CHECKING:
    from .generator import GuidedDiffusionGenerator, load_generator, save_generator
    from .unet import UNet

__all__ = [
    "PRESETS",
    "GuidedDiffusionGenerator",
    "Preset",
    "UNet",
    "UNetFlags",
    "load_generator",
    "save_generator",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that listing plugins imports no torch.
    if name == "UNet":
        from .unet import UNet

        return UNet
    if name in __all__:
        from . import generator

        return getattr(generator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
