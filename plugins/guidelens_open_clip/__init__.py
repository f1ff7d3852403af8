"""Models of open-clip-torch as guidelens components: CLIP and SigLIP (ITC), CoCa (ITC and CAP), CLIP score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .guidance import OpenClipGuidance, OpenClipOptions, load_open_clip
    from .metrics import ClipScore
    from .preprocess import Preprocess
    from .templates import read_templates

_HOME = {
    "ClipScore": "metrics",
    "OpenClipGuidance": "guidance",
    "OpenClipOptions": "guidance",
    "Preprocess": "preprocess",
    "load_open_clip": "guidance",
    "read_templates": "templates",
}

__all__ = [
    "ClipScore",
    "OpenClipGuidance",
    "OpenClipOptions",
    "Preprocess",
    "load_open_clip",
    "read_templates",
]

# Imported on first use: the program loads every plugin at each start, which must not import torch or open_clip.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
