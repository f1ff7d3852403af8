"""The pytest plugin for plugin authors (``pip install 'guidelens[testing]'``). Its fixtures are named guidelens_*.

pytest loads this module wherever guidelens is installed. So it does not import guidelens until a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from click.testing import Result
    from torch import Tensor

    from guidelens.engine import Engine
    from guidelens.plugins import PluginManager
    from guidelens.testing.toys import TinyGenerator, TinyGuidanceModel


@pytest.fixture
def guidelens_generator() -> TinyGenerator:
    """A generator of 8x8 pictures that runs in microseconds: guidelens.testing.TinyGenerator."""
    from guidelens.testing.toys import TinyGenerator

    return TinyGenerator()


@pytest.fixture
def guidelens_guidance_model() -> TinyGuidanceModel:
    """A guidance model with itc, itm and cap that is as fast: guidelens.testing.TinyGuidanceModel."""
    from guidelens.testing.toys import TinyGuidanceModel

    return TinyGuidanceModel()


@pytest.fixture
def guidelens_engine(
    guidelens_generator: TinyGenerator, guidelens_guidance_model: TinyGuidanceModel
) -> Engine:
    """An Engine with these two, on the CPU, with 4 steps. To test your own, override one of the two fixtures."""
    from guidelens.engine import Engine
    from guidelens.sampling import Sampling

    return Engine(guidelens_generator, guidelens_guidance_model, Sampling(steps=4), device="cpu")


@pytest.fixture
def guidelens_images() -> Tensor:
    """Three pictures (3, 3, 32, 32) float32 in [-1, 1], the same in every run."""
    from guidelens.testing.networks import pictures

    return pictures(3, (3, 32, 32))


@pytest.fixture
def guidelens_prompts() -> tuple[str, ...]:
    """Three prompts of different lengths."""
    return ("a red circle", "a dog on a sofa", "two small green triangles above a large blue square")


@pytest.fixture
def guidelens_plugins() -> Callable[..., PluginManager]:
    """``guidelens_plugins(X, ...)`` returns the PluginManager with plugins X. GUIDELENS_PLUGINS is ignored."""

    def load(*requests: Any) -> PluginManager:
        from guidelens.plugins import PluginManager

        return PluginManager.load(requests, environment={})

    return load


@pytest.fixture
def guidelens_cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``guidelens_cli("plugins", "show", X)`` runs the command line in this process.

    The result has ``exit_code``, ``stdout`` and ``stderr``. With ``-p guidelens.testing.tiny``, commands that draw
    pictures take milliseconds.
    """
    monkeypatch.delenv("GUIDELENS_PLUGINS", raising=False)

    def run(*args: object) -> Result:
        from click.testing import CliRunner

        from guidelens.cli.main import cli

        return CliRunner().invoke(cli, [str(arg) for arg in args], catch_exceptions=False)

    return run
