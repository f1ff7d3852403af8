"""Import open_clip on first use and without warnings. The import takes seconds and emits deprecation warnings."""

from __future__ import annotations

import importlib
from types import ModuleType

from guidelens.quiet import quiet


def import_open_clip(module: str = "") -> ModuleType:
    """Import ``open_clip`` or its submodule ``module``, without the warnings of its dependencies."""
    with quiet():
        return importlib.import_module(f"open_clip.{module}" if module else "open_clip")
