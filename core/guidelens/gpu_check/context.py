"""What the cases of a check share: plugins, settings, folder and networks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from guidelens.contracts import Generator, GuidanceModel
from guidelens.plugins import Component, PluginManager

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

    @property
    def can_compile(self) -> bool:
        """Whether the generator has an option ``compile``."""
        return any(option.name == "compile" for option in self.settings.generator.info.options)

    @cached_property
    def compiled(self) -> Generator:
        """The generator with ``compile=true``."""
        chosen = self.settings.generator
        with_compile = Component(chosen.info, {**chosen.options, "compile": True}, chosen.spec)
        built: Generator = with_compile.build()
        return built

    @cached_property
    def demo(self) -> tuple[Generator, GuidanceModel]:
        """The default generator and guidance model."""
        return self.manager.build("generator"), self.manager.build("guidance")
