"""A new plugin package, written from templates: it installs, works and passes its own tests as it is."""

from __future__ import annotations

from .package import KINDS, write_package

__all__ = ["KINDS", "write_package"]
