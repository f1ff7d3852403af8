"""Weights files: what plugins name, where they lie, how they are fetched and checked. Loads no torch.

A plugin describes each file as a :class:`WeightsFile` and hands it over through the hook ``register_weights``; its
component asks :func:`require` for the path when it is built, and :func:`read_state` for the tensors in it. The command
``guidelens weights`` does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

from .registry import WeightsFile

if TYPE_CHECKING:
    from .conversion import Conversion, convert
    from .fetching import Fetched, fetch, install
    from .sharded import weights_in
    from .store import Status, locate, remove, require, status, target, verify, weights_home
    from .unwrapping import State, check_finite, read_state

_HOME = {
    "Conversion": "conversion",
    "Fetched": "fetching",
    "State": "unwrapping",
    "Status": "store",
    "check_finite": "unwrapping",
    "convert": "conversion",
    "fetch": "fetching",
    "install": "fetching",
    "locate": "store",
    "read_state": "unwrapping",
    "remove": "store",
    "require": "store",
    "status": "store",
    "target": "store",
    "verify": "store",
    "weights_home": "store",
    "weights_in": "sharded",
}

__all__ = [
    "Conversion",
    "Fetched",
    "State",
    "Status",
    "WeightsFile",
    "check_finite",
    "convert",
    "fetch",
    "install",
    "locate",
    "read_state",
    "remove",
    "require",
    "status",
    "target",
    "verify",
    "weights_home",
    "weights_in",
]

# Late: plugins register weights each time the program starts.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
