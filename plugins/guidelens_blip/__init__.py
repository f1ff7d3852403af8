"""BLIP's three objectives (ITC, ITM, CAP) as a guidelens guidance model, on LAVIS's ``BlipPretrain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .architecture import PRESETS, BlipConfig, build_blip

_EXPORTS = {
    "BlipConfig": "architecture",
    "PRESETS": "architecture",
    "build_blip": "architecture",
}

__all__ = ["PRESETS", "BlipConfig", "build_blip"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: importing this package loads neither torch nor LAVIS."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
