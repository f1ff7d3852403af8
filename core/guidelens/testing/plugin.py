"""Checking a whole plugin: each of its components is built and examined; what cannot be built is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from guidelens.contracts import Prompt
from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import Component, ComponentInfo, PluginInfo, UnfitComponent
from guidelens.plugins.spelling import parse_component, suggestion

from . import examine
from .checklist import one_line
from .report import Check, Report, Status

ORDER = ("prompts", "generator", "guidance", "schedule", "metric")
"""Kinds in the order of checking: prompts and picture size of a plugin are used for its other components."""
_BUILT = "The factory builds it, from the options given, and it has what its contract asks for"
_MOST_PROMPTS = 6


@dataclass
class _Known:
    """What the components that were checked tell about the plugin's world."""

    prompts: list[Prompt] = field(default_factory=list)
    image_shape: tuple[int, int, int] | None = None

    def learn(self, kind: str, component: Any) -> None:
        if kind == "prompts":
            fresh = [p for p in component if p.target not in {known.target for known in self.prompts}]
            self.prompts += fresh[: _MOST_PROMPTS - len(self.prompts)]
        elif kind == "generator":
            self.image_shape = component.image_shape

    def options(self, kind: str, device: str) -> dict[str, Any]:
        """Return how to examine a component of a kind."""
        options: dict[str, Any] = {"device": device} if kind in ("generator", "guidance") else {}
        if kind in ("guidance", "metric") and self.image_shape is not None:
            options["image_shape"] = self.image_shape
        if kind == "metric" and self.prompts:
            options["prompts"] = self.prompts
        if kind == "guidance" and len(self.prompts) >= 3:
            options["prompts"] = [prompt.target for prompt in self.prompts[:3]]
        return options


def check_plugin(
    plugin: PluginInfo, specs: Sequence[str] = (), *, kind: str | None = None, device: str = "cpu"
) -> Iterator[Report]:
    """Build and examine the components of a plugin, one report each; prompt sets and generators come first.

    Prompts and the size of pictures are taken from the plugin's own prompt sets and generator, where it has
    some. A component that cannot be built for want of weights, a module or an option is reported as not checked.

    :param specs: components to check, spelled ``name`` or ``name:key=value,...``; none: all, with default options.
    :param kind: only components of this kind.
    :param device: where networks run.
    :raises UsageError: at once, for a component that the plugin does not offer, or options that do not fit.
    """
    return _reports(_chosen(plugin, specs, kind), device)


def _chosen(
    plugin: PluginInfo, specs: Sequence[str], kind: str | None
) -> list[tuple[ComponentInfo, Component | UsageError]]:
    """Return the components to check, each with its options, or the reason why it cannot do without some."""
    offered = [info for info in plugin.components if kind in (None, info.kind)]
    chosen: list[tuple[ComponentInfo, Component | UsageError]] = []
    for spec in specs:
        name, options = parse_component(spec)
        named = [info for info in offered if info.name == name]
        if not named:
            names = list(dict.fromkeys(info.name for info in offered))
            raise UsageError(
                f"{plugin.title} offers no component {name!r}{suggestion(name, names)}; it has {', '.join(names)}"
            )
        if len(named) > 1 and options:
            kinds = " or ".join(f"--kind {info.kind}" for info in named)
            raise UsageError(f"{spec!r} may mean several components of {plugin.title}; add {kinds}")
        chosen += [(info, info.configure(options)) for info in named]
    if not specs:
        chosen = [(info, _configured(info)) for info in offered]
    return sorted(chosen, key=lambda pair: ORDER.index(pair[0].kind))


def _configured(info: ComponentInfo) -> Component | UsageError:
    try:
        return info.configure({})
    except UsageError as error:
        return error


def _reports(chosen: list[tuple[ComponentInfo, Component | UsageError]], device: str) -> Iterator[Report]:
    known = _Known()
    for info, component in chosen:
        if isinstance(component, UsageError):
            yield Report(info.kind, info.name, (_not_built(component),))
        else:
            yield _report(component, known, device)


def _report(component: Component, known: _Known, device: str) -> Report:
    kind = component.info.kind
    built = Check("build", _BUILT, "passed")
    try:
        instance = component.build()
    except Exception as error:  # a factory may raise anything
        return Report(kind, component.spec, (_not_built(error),))
    try:
        report = examine(kind, instance, **known.options(kind, device))
        known.learn(kind, instance)
    except Exception as error:  # even its attributes may raise
        built = Check("build", _BUILT, "failed", f"unusable: {one_line(error)}", error=error)
        return Report(kind, component.spec, (built,))
    return Report(kind, component.spec, (built, *report.checks))


def _not_built(error: Exception) -> Check:
    """Tell what an author has to mend from what the user has to give."""
    expected = isinstance(error, GuidelensError) and not isinstance(error, UnfitComponent)
    status: Status = "skipped" if expected else "failed"
    detail = f"not checked: {error}" if expected else one_line(error)
    return Check("build", _BUILT, status, detail, error=error)
