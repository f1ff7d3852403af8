"""Import open_clip late and quietly: it takes seconds, and what it imports emits deprecation warnings."""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_LOCK = threading.RLock()
"""``warnings.catch_warnings`` swaps process-wide state, so two threads must not be inside it at once."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Python warnings for the enclosed block, under a lock. May nest; safe from any thread."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_open_clip(module: str = "") -> ModuleType:
    """Import ``open_clip``, or its submodule ``module``, without the warnings of what it imports in turn."""
    with quiet():
        return importlib.import_module(f"open_clip.{module}" if module else "open_clip")
