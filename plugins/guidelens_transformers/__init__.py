"""Models of the transformers library as guidance models and judges: CAP, VQA, ITC, ITM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .guidance import TransformersGuidance
    from .loading import load_guidance
    from .options import ObjectiveOptions

_HOME = {
    "ObjectiveOptions": "options",
    "TransformersGuidance": "guidance",
    "load_guidance": "loading",
}

__all__ = ["ObjectiveOptions", "TransformersGuidance", "load_guidance"]

# Imported on first use: the program loads every plugin at each start, which must not import torch or transformers.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
