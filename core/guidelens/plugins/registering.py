"""The ``register`` callbacks for plugins, with checks of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .components import KINDS, NAME_PATTERN, ComponentInfo

if TYPE_CHECKING:
    from guidelens.hookspecs import RunLength

    from .manager import PluginInfo


class Registrar:
    """The ``register`` callback of a plugin for a kind."""

    def __init__(self, plugin: PluginInfo, kind: str) -> None:
        self._plugin, self._kind = plugin, kind

    def __call__(
        self,
        name: str,
        factory: Callable[..., Any],
        *,
        summary: str,
        requires: Sequence[str] = (),
        install: Sequence[str] = (),
        default: bool | None = None,
        settle: Callable[[Mapping[str, Any], RunLength], Mapping[str, Any]] | None = None,
    ) -> None:
        noun = KINDS[self._kind].noun
        check_name(noun, name)
        if not callable(factory):
            raise TypeError(
                f"the factory of {noun} {name!r} is a {type(factory).__name__}, which cannot be called"
            )
        for parameter, value in (("requires", requires), ("install", install)):
            if isinstance(value, str) or not all(isinstance(entry, str) and entry for entry in value):
                given = "one text" if isinstance(value, str) else repr(value)
                raise TypeError(f"{noun} {name!r}: {parameter} must be a sequence of names, not {given}")
        if not isinstance(summary, str):
            raise TypeError(f"{noun} {name!r}: summary must be text, not {summary!r}")
        theirs = [info for info in self._plugin.components if info.kind == self._kind]
        if any(info.name == name for info in theirs):
            raise ValueError(f"{noun} {name!r} is registered twice")
        if default and not KINDS[self._kind].several and any(info.default for info in theirs):
            raise ValueError(f"{noun} {name!r} is a second default")
        self._plugin.components.append(
            ComponentInfo(
                self._kind,
                name,
                self._plugin.name,
                self._plugin.source.dist,
                summary,
                factory,
                tuple(requires),
                default,
                tuple(install),
                settle,
            )
        )


def check_name(noun: str, name: object) -> None:
    """:raises ValueError: ``name`` is not a valid name for a ``noun``, such as a component."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise ValueError(f"{noun} name {name!r}: use lower-case letters, digits, '-', '_' and '.'")
