"""``guidelens explore``: a page on this machine that draws while you type and drag."""

from __future__ import annotations
