"""guidelens: see what a vision-language objective means, through what it makes a diffusion model draw.

The names below are resolved when they are first used, so ``import guidelens`` loads neither torch nor a
plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guidelens.contracts import (
        CONTRACT_VERSION,
        Generator,
        GuidanceModel,
        Metric,
        Prompt,
        PromptSet,
        Schedule,
        TextBatch,
    )
    from guidelens.engine import Engine, Result, Sample, Step
    from guidelens.errors import GuidelensError, UsageError
    from guidelens.guidance import GuidanceOptions
    from guidelens.hookspecs import hookimpl
    from guidelens.plugins import ComponentInfo, PluginManager
    from guidelens.runs.compare import compare
    from guidelens.studies.results import load_study
    from guidelens.studies.run import run_study

__version__ = "0.1.0"

_HOME = {
    "CONTRACT_VERSION": "guidelens.contracts",
    "ComponentInfo": "guidelens.plugins",
    "Engine": "guidelens.engine",
    "Generator": "guidelens.contracts",
    "GuidanceModel": "guidelens.contracts",
    "GuidanceOptions": "guidelens.guidance",
    "GuidelensError": "guidelens.errors",
    "Metric": "guidelens.contracts",
    "PluginManager": "guidelens.plugins",
    "Prompt": "guidelens.contracts",
    "PromptSet": "guidelens.contracts",
    "Result": "guidelens.engine",
    "Sample": "guidelens.engine",
    "Schedule": "guidelens.contracts",
    "Step": "guidelens.engine",
    "TextBatch": "guidelens.contracts",
    "UsageError": "guidelens.errors",
    "compare": "guidelens.runs.compare",
    "hookimpl": "guidelens.hookspecs",
    "load_study": "guidelens.studies.results",
    "run_study": "guidelens.studies.run",
}
"""Public name -> the module that defines it."""

__all__ = [
    "CONTRACT_VERSION",
    "ComponentInfo",
    "Engine",
    "Generator",
    "GuidanceModel",
    "GuidanceOptions",
    "GuidelensError",
    "Metric",
    "PluginManager",
    "Prompt",
    "PromptSet",
    "Result",
    "Sample",
    "Schedule",
    "Step",
    "TextBatch",
    "UsageError",
    "__version__",
    "compare",
    "hookimpl",
    "load_study",
    "run_study",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value  # the next access is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
