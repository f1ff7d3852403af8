"""Find and load plugins, and build the components that they offer. Does not load torch."""

from __future__ import annotations

from .components import KINDS, Component, ComponentInfo, Kind, SectionInfo, StudyInfo, UnfitComponent
from .manager import PluginInfo, PluginManager
from .sources import code_hash
from .values import OptionInfo

__all__ = [
    "KINDS",
    "Component",
    "ComponentInfo",
    "Kind",
    "OptionInfo",
    "PluginInfo",
    "PluginManager",
    "SectionInfo",
    "StudyInfo",
    "UnfitComponent",
    "code_hash",
]
