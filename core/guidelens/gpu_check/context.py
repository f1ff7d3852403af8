"""What the cases of a check share: plugins, settings, folder and networks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from guidelens.contracts import Generator, GuidanceModel
from guidelens.plugins import PluginManager

from .settings import CheckSettings


class CheckContext:
    """Plugins, settings and folder of a check, and its networks, each built when a case first uses it."""

    def __init__(self, manager: PluginManager, settings: CheckSettings, directory: Path) -> None:
        self.manager, self.settings, self.directory = manager, settings, directory

    @cached_property
    def generator(self) -> Generator:
        """The generator of the check."""
        built: Generator = self.settings.generator.build()
        return built

    @cached_property
    def guidance(self) -> GuidanceModel:
        """The guidance model of the check."""
        built: GuidanceModel = self.settings.guidance.build()
        return built

    @cached_property
    def demo(self) -> tuple[Generator, GuidanceModel]:
        """The default generator and guidance model."""
        return self.manager.build("generator"), self.manager.build("guidance")
