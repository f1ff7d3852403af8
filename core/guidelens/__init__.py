"""guidelens: see what a vision-language objective means, through what it makes a diffusion model draw.

The names below are imported when they are first used, so ``import guidelens`` loads neither torch nor plugins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names
from guidelens.threads import shorten_spinning

if TYPE_CHECKING:
    from guidelens.comparison import compare
    from guidelens.contracts import (
        CONTRACT_VERSION,
        Column,
        Fact,
        Generator,
        GuidanceModel,
        Metric,
        Prompt,
        PromptSet,
        QuestionScore,
        Schedule,
        TextBatch,
    )
    from guidelens.engine import Engine, Result, Sample, Step
    from guidelens.errors import GuidelensError, UsageError
    from guidelens.guidance import Settings, resolve
    from guidelens.hookspecs import hookimpl
    from guidelens.joint_guidance import JointGuidance
    from guidelens.pictures import to_picture
    from guidelens.plugins import ComponentInfo, PluginManager
    from guidelens.runs.stream import stream
    from guidelens.sampling import Sampling
    from guidelens.studies.results import load_study
    from guidelens.studies.run import run_study

__version__ = "0.1.0"

shorten_spinning()  # before anything imports torch

_HOME = {
    "CONTRACT_VERSION": "contracts",
    "Column": "contracts",
    "ComponentInfo": "plugins",
    "Engine": "engine",
    "Fact": "contracts",
    "Generator": "contracts",
    "GuidanceModel": "contracts",
    "GuidelensError": "errors",
    "JointGuidance": "joint_guidance",
    "Metric": "contracts",
    "PluginManager": "plugins",
    "Prompt": "contracts",
    "PromptSet": "contracts",
    "QuestionScore": "contracts",
    "Result": "engine",
    "Sample": "engine",
    "Sampling": "sampling",
    "Schedule": "contracts",
    "Settings": "guidance",
    "Step": "engine",
    "TextBatch": "contracts",
    "UsageError": "errors",
    "compare": "comparison",
    "hookimpl": "hookspecs",
    "load_study": "studies.results",
    "resolve": "guidance",
    "run_study": "studies.run",
    "stream": "runs.stream",
    "to_picture": "pictures",
}
"""Public name -> the module that defines it."""

__all__ = [
    "CONTRACT_VERSION",
    "Column",
    "ComponentInfo",
    "Engine",
    "Fact",
    "Generator",
    "GuidanceModel",
    "GuidelensError",
    "JointGuidance",
    "Metric",
    "PluginManager",
    "Prompt",
    "PromptSet",
    "QuestionScore",
    "Result",
    "Sample",
    "Sampling",
    "Schedule",
    "Settings",
    "Step",
    "TextBatch",
    "UsageError",
    "__version__",
    "compare",
    "hookimpl",
    "load_study",
    "resolve",
    "run_study",
    "stream",
    "to_picture",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
