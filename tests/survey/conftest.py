"""A run's directory, and surveys over it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers of all tests
from survey_runs import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def make(run: Path, tmp_path: Path) -> Callable:  # type: ignore[type-arg]
    """Return a function that makes a survey over the run, with small numbers where none are given."""
    from guidelens_survey.create import create_survey

    def create(name: str = "survey.db", **options):  # type: ignore[no-untyped-def]
        return create_survey(
            run, tmp_path / name, **{"items": 6, "raters": 4, "repeats": 1, "checks": 1, **options}
        )

    return create
