"""BLIP's three objectives (ITC, ITM, CAP) as a guidelens guidance model, on LAVIS's ``BlipPretrain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .architecture import PRESETS, BlipConfig, build_blip
    from .checkpoint import load_model, save_blip
    from .guidance import BlipGuidance, BlipOptions, load_blip

_EXPORTS = {
    "PRESETS": "architecture",
    "BlipConfig": "architecture",
    "build_blip": "architecture",
    "load_model": "checkpoint",
    "save_blip": "checkpoint",
    "BlipGuidance": "guidance",
    "BlipOptions": "guidance",
    "load_blip": "guidance",
}

__all__ = [
    "PRESETS",
    "BlipConfig",
    "BlipGuidance",
    "BlipOptions",
    "build_blip",
    "load_blip",
    "load_model",
    "save_blip",
]


def __getattr__(name: str) -> Any:
    """Import the public names when first used: importing this package loads neither torch nor LAVIS."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
