"""Check a whole plugin: build and examine each of its components, and report those that cannot be built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from guidelens.contracts import Prompt
from guidelens.errors import GuidelensError, UsageError
from guidelens.guarding import ComponentError
from guidelens.plugins import Component, ComponentInfo, PluginInfo, UnfitComponent
from guidelens.plugins.spelling import parse_component, suggestion

from . import checks_of, examine
from .checklist import one_line
from .report import Check, ConformanceReport

ORDER = ("prompts", "generator", "guidance", "schedule", "metric")
"""Kinds in the order of checking. Prompts and picture size of a plugin are used to check its other components."""
_BUILT = "The factory builds it, from the options given, and it has what its contract asks for"
_FEWEST_PROMPTS, _MOST_PROMPTS = 3, 6


@dataclass(frozen=True)
class PluginCheck:
    """How to examine the components of a plugin.

    :param device: device of the networks.
    :param prompts: prompts for guidance models and metrics; empty: those of the plugin's prompt sets, else built-in
        ones.
    :param image_size: height and width of the test pictures; None: the size of the plugin's generator, else 32.
    :param skip: names of checks to leave out.
    """

    device: str = "cpu"
    prompts: Sequence[str] = ()
    image_size: int | None = None
    skip: Sequence[str] = ()


@dataclass
class _World:
    """Prompts and picture size for the next components, from the options or from components checked before."""

    wanted: PluginCheck
    prompts: list[Prompt] = field(init=False)
    image_shape: tuple[int, int, int] | None = field(init=False)

    def __post_init__(self) -> None:
        size = self.wanted.image_size
        self.prompts = [Prompt(text) for text in self.wanted.prompts]
        self.image_shape = None if size is None else (3, size, size)

    def learn(self, kind: str, component: Any) -> None:
        if kind == "prompts" and not self.wanted.prompts:
            fresh = [p for p in component if p.target not in {known.target for known in self.prompts}]
            self.prompts += fresh[: _MOST_PROMPTS - len(self.prompts)]
        elif kind == "generator" and self.wanted.image_size is None:
            self.image_shape = component.image_shape

    def options(self, kind: str) -> dict[str, Any]:
        """Return the options for examining a component of a kind."""
        options: dict[str, Any] = {"skip": [name for name in self.wanted.skip if name in checks_of(kind)]}
        if kind in ("generator", "guidance"):
            options["device"] = self.wanted.device
        if kind in ("guidance", "metric") and self.image_shape is not None:
            options["image_shape"] = self.image_shape
        if kind == "metric" and self.prompts:
            options["prompts"] = self.prompts
        if kind == "guidance" and (self.wanted.prompts or len(self.prompts) >= _FEWEST_PROMPTS):
            options["prompts"] = [prompt.target for prompt in self.prompts[:_MOST_PROMPTS]]
        return options


def check_plugin(
    plugin: PluginInfo,
    specs: Sequence[str] = (),
    *,
    kind: str | None = None,
    how: PluginCheck = PluginCheck(),
) -> Iterator[ConformanceReport]:
    """Build and examine the components of a plugin, with one report each. Prompt sets and generators come first. A
    component that lacks weights, a module or an option is reported as not checked. If ``specs`` lists it, this is a
    failure.

    :param specs: components to check, spelled ``name`` or ``name:key=value,...``; none: all, with default options.
    :param kind: only components of this kind.
    :raises UsageError: at once, for a component that the plugin does not offer, options that do not fit, or a
        check that does not exist.
    """
    known = dict.fromkeys(name for of in ORDER for name in checks_of(of))
    for name in how.skip:
        if name not in known:
            raise UsageError(
                f"no check {name!r} to skip{suggestion(name, known)}; there are {', '.join(known)}"
            )
    if how.prompts and len(set(how.prompts)) < _FEWEST_PROMPTS:
        raise UsageError(f"give at least {_FEWEST_PROMPTS} different prompts, not {len(set(how.prompts))}")
    return _reports(_chosen(plugin, specs, kind), _World(how), asked=bool(specs))


def _chosen(
    plugin: PluginInfo, specs: Sequence[str], kind: str | None
) -> list[tuple[ComponentInfo, Component | UsageError]]:
    """Return the components to check, each with its options, or with the reason why it cannot be built."""
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


def _reports(
    chosen: list[tuple[ComponentInfo, Component | UsageError]], world: _World, *, asked: bool
) -> Iterator[ConformanceReport]:
    for info, component in chosen:
        if isinstance(component, UsageError):
            yield ConformanceReport(info.kind, info.name, (_not_built(component, asked),))
        else:
            yield _report(component, world, asked)


def _report(component: Component, world: _World, asked: bool) -> ConformanceReport:
    kind = component.info.kind
    built = Check("build", _BUILT, "passed")
    try:
        instance = component.build()
    except GuidelensError as error:
        return ConformanceReport(kind, component.spec, (_not_built(error, asked),))
    try:
        report = examine(kind, instance, **world.options(kind))
        world.learn(kind, instance)
    except (Exception, SystemExit) as error:  # even reading its attributes may raise
        built = Check("build", _BUILT, "failed", f"unusable: {one_line(error)}", error=error)
        return ConformanceReport(kind, component.spec, (built,))
    return ConformanceReport(kind, component.spec, (built, *report.checks))


def _not_built(error: Exception, asked: bool) -> Check:
    """Return whether the author must fix the problem; otherwise the user must provide something."""
    if isinstance(error, ComponentError):  # the author needs the exception of the factory
        return Check("build", _BUILT, "failed", one_line(error.__cause__ or error), error=error)
    expected = isinstance(error, GuidelensError) and not isinstance(error, UnfitComponent)
    if expected and not asked:
        return Check("build", _BUILT, "skipped", f"not checked: {error}", error=error)
    return Check("build", _BUILT, "failed", str(error) if expected else one_line(error), error=error)
