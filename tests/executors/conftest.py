"""The toy study of the tests of studies, for executors."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
for folder in (TESTS, TESTS / "studies"):  # the tiny world, and a brittle one
    sys.path.insert(0, str(folder))
