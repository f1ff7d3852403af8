"""Write a new plugin package from templates. It can be installed and passes its own tests without changes."""

from __future__ import annotations

from .package import KINDS, write_package

__all__ = ["KINDS", "write_package"]
