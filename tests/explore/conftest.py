"""One server over the tiny world, for all tests of a module."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of all tests
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from explorer import served, tiny_plugins

    with served(tiny_plugins(), generator="tiny") as address:
        yield address
