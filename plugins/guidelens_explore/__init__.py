"""``guidelens explore``: a page on this machine that draws while you type, drag and look."""

from __future__ import annotations
