"""The generator ``pixels``: direct optimisation of an image, without a diffusion prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .generator import Pixels

_HOME = {"Pixels": "generator"}

__all__ = ["Pixels"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
