"""Tiny models, each written once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a family to the folder of its tiny model."""
    if transformers.__version__.startswith("4."):
        pytest.skip("needs transformers 5; LAVIS keeps transformers at an older release")
    from tiny_families import make

    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = make(family, tmp_path_factory.mktemp("models") / family)
        return made[family]

    return get
