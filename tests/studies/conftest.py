"""Fixtures of studies; what is not a fixture is in study_worlds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guidelens.plugins import PluginManager
from guidelens.studies.file import Study, parse_study
from guidelens.studies.run import StudyRun, run_study
from study_worlds import TOY, TOY_PLUGINS


@pytest.fixture(scope="session")
def plugins() -> PluginManager:
    return PluginManager.load(TOY_PLUGINS, environment={})


@pytest.fixture
def study() -> Callable[[str], Study]:
    return lambda text: parse_study(text, label="s.toml")


@pytest.fixture
def run(plugins: PluginManager) -> Callable[..., StudyRun]:
    """Run a study given as text."""

    def run(text: str, out: Path, **extra: Any) -> StudyRun:
        return run_study(parse_study(text, label="s.toml"), out=out, **{"plugins": plugins, **extra})

    return run


@pytest.fixture(scope="session")
def toy(plugins: PluginManager, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the toy study, done. Not to be changed."""
    out = tmp_path_factory.mktemp("toy") / "run"
    assert run_study(parse_study(TOY, label="s.toml"), out=out, plugins=plugins).complete
    return out
