"""Weights files: what plugins name, where they lie, how they are fetched and checked. Loads no torch.

A plugin describes each file as a :class:`WeightsFile` and hands it over through the hook ``register_weights``; its
component asks :func:`require` for the path when it is built. The command ``guidelens weights`` does the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registry import WeightsFile

if TYPE_CHECKING:
    from .conversion import Conversion, convert
    from .fetching import Fetched, fetch, install
    from .store import Status, locate, remove, require, status, target, verify, weights_home

_HOME = {
    "Conversion": "conversion",
    "Fetched": "fetching",
    "Status": "store",
    "convert": "conversion",
    "fetch": "fetching",
    "install": "fetching",
    "locate": "store",
    "remove": "store",
    "require": "store",
    "status": "store",
    "target": "store",
    "verify": "store",
    "weights_home": "store",
}

__all__ = [
    "Conversion",
    "Fetched",
    "Status",
    "WeightsFile",
    "convert",
    "fetch",
    "install",
    "locate",
    "remove",
    "require",
    "status",
    "target",
    "verify",
    "weights_home",
]


def __getattr__(name: str) -> Any:
    """Import a function when it is first used: plugins register weights each time the program starts."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
