"""Weights files: declared by plugins, downloaded into a cache, and verified. Does not load torch.

A plugin describes each file as a :class:`WeightsFile` and registers it in the hook ``register_weights``. Its
component gets the path from :func:`require` and the tensors from :func:`read_state` when it is built. The command
``guidelens weights`` manages the files.
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

# Imported late, because plugins register weights at each start of the program.
__getattr__, __dir__ = lazy_names(__name__, _HOME)
