"""Models of open-clip-torch as guidelens components: CLIP and SigLIP (ITC), CoCa (ITC and CAP), CLIP score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .guidance import OpenClipGuidance, OpenClipOptions, load_open_clip
    from .metrics import ClipScore
    from .preprocess import Preprocess
    from .templates import read_templates

_EXPORTS = {
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


def __getattr__(name: str) -> Any:
    """Import the public names when first used: importing this package loads neither torch nor open_clip."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
