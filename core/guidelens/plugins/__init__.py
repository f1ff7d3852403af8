"""Plugins: finding them, loading them, and building the components they offer. Loads no torch."""

from __future__ import annotations

from .components import KINDS, Component, ComponentInfo, Kind, UnfitComponent
from .manager import PluginInfo, PluginManager, SectionInfo, StudyInfo
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
]
