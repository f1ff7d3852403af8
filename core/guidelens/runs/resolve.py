"""Resolve components, given by name or as objects, to objects with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from guidelens.contracts import Generator, GuidanceModel, Metric, Prompt
from guidelens.errors import UsageError
from guidelens.hookspecs import RunLength
from guidelens.plugins import Component, PluginManager, code_hash
from guidelens.runs.config import as_prompts
from guidelens.runs.scoring import NamedMetric, version_text
from guidelens.schedules import NamedSchedule, ScheduleSpec, object_name, read_schedules
from guidelens.weights.store import build_all

T = TypeVar("T")


@dataclass(frozen=True)
class Named(Generic[T]):
    """A component and its name.

    :param plugin: name and version of its plugin; empty for an object of the caller.
    """

    name: str
    component: T
    plugin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunScope:
    """What decides options that pay only in long runs, see :meth:`guidelens.plugins.Component.settled`.

    :param copies: number of pictures for each prompt and schedule.
    :param device: a name of a device, such as ``auto``.
    :param recorded: spelling of the generator with which the run was started.
    """

    copies: int = 1
    steps: int = 1
    device: str = "auto"
    recorded: str | None = None


@dataclass
class Components:
    """All the parts of a run.

    :param requests: requests that load the same plugins again; None if a model is an object of the caller.
    """

    generator: Named[Generator]
    guidance: Named[GuidanceModel]
    schedules: list[NamedSchedule]
    metrics: list[NamedMetric]
    prompts: Sequence[Prompt] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    requests: list[str] | None = None


def resolve_components(
    plugins: PluginManager | None,
    *,
    generator: str | Generator | None = None,
    guidance: str | GuidanceModel | None = None,
    schedules: ScheduleSpec | None = None,
    metrics: Sequence[str | Metric] | None = None,
    prompts: Sequence[Prompt] | None = (),
    scope: RunScope | None = None,
) -> Components:
    """Look up and build the parts of a run.

    Plugins are loaded only if a name or a default has to be looked up. Cheap parts are built first: a misspelled
    schedule is reported before any weights are read.

    The default schedules and metrics are those that their plugin marks as default. If it marks none, they are all
    those without required options, except those marked as never a default. They come from the plugins that the user
    asked for. If these offer none, schedules come from all plugins and metrics from the plugin of the generator.
    Default guidance model and prompts are those with the name of the generator, if its plugin has them.

    :param prompts: None takes the default prompt set.
    :param scope: decides options of the generator that depend on the length of the run.
    :raises UsageError: for unknown names, options that do not fit, or no schedule at all.
    :raises GuidelensError: for components that cannot be built.
    """
    resolver = _ComponentResolver(plugins)
    choice = resolver.choose("generator", generator)
    named_schedules = _schedules(resolver, schedules)
    if prompts is None:
        prompts = as_prompts(resolver.build(resolver.choose("prompts", None, choice)).component)
    chosen_metrics = (
        resolver.defaults("metric", choice)
        if metrics is None
        else [resolver.choose("metric", m) for m in metrics]
    )
    choice = resolver.settle(choice, scope or RunScope(), len(prompts) * len(named_schedules))
    model = resolver.choose("guidance", guidance, choice)
    scorers = [resolver.build(item) for item in _distinct(chosen_metrics)]
    built_generator, built_model = build_all(lambda: resolver.build(choice), lambda: resolver.build(model))
    return Components(
        generator=built_generator,
        guidance=built_model,
        schedules=named_schedules,
        metrics=[NamedMetric(item.name, item.component, version_text(item.plugin)) for item in scorers],
        prompts=prompts,
        versions=resolver.versions(),
        requests=resolver.plugins.requests()
        if all(isinstance(c, Component) for c in (choice, model))
        else None,
    )


def default_components(
    plugins: PluginManager, kind: str, generator: Component | None = None
) -> list[Component]:
    """Return the default components of ``kind``; see :func:`resolve_components`.

    :param generator: default metrics come from the plugin of this generator.
    """
    chosen = _ComponentResolver(plugins).defaults(kind, generator)
    return [component for component in chosen if isinstance(component, Component)]


def _schedules(resolver: _ComponentResolver, schedules: ScheduleSpec | None) -> list[NamedSchedule]:
    if schedules is None:
        built = [resolver.build(item) for item in _distinct(resolver.defaults("schedule"))]
        named = [NamedSchedule(item.name, item.component) for item in built]
    else:
        named = read_schedules(schedules, lambda: resolver.plugins)
    if not named:
        raise UsageError(
            "no schedules: give at least one (--schedule), or load a plugin that offers some",
            setting="schedules",
        )
    return named


def _distinct(choices: Sequence[Component | Named[Any]]) -> list[Component | Named[Any]]:
    """Drop components with a repeated spelling. Objects are never dropped."""
    return list({c.spec if isinstance(c, Component) else id(c): c for c in choices}.values())


def _bare(spelled: str) -> str:
    return spelled.partition(":")[0]


class _ComponentResolver:
    """Looks up components. Plugins are loaded when they are first needed."""

    def __init__(self, plugins: PluginManager | None) -> None:
        self._plugins = plugins

    @property
    def plugins(self) -> PluginManager:
        if self._plugins is None:
            self._plugins = PluginManager.load()
        return self._plugins

    def versions(self) -> Mapping[str, str]:
        return {} if self._plugins is None else self._plugins.versions()

    def choose(
        self, kind: str, wanted: object, generator: Component | Named[Any] | None = None
    ) -> Component | Named[Any]:
        """Return a component that is not built yet, or an object with its name."""
        if wanted is None or isinstance(wanted, str):
            beside = generator if isinstance(generator, Component) else None
            return self.plugins.resolve(kind, wanted, Path.cwd(), beside=beside)
        version = {"object": code_hash(type(wanted).__module__)}
        return Named(object_name(wanted), wanted, version if kind == "metric" else {})

    def settle(
        self, choice: Component | Named[Any], scope: RunScope, pictures: int
    ) -> Component | Named[Any]:
        """Decide options that depend on the length of the run. ``pictures``: number of them, without copies."""
        if not isinstance(choice, Component) or choice.info.settle is None:
            return choice
        from guidelens.networks import resolve_device

        recorded = None
        if scope.recorded is not None and _bare(scope.recorded) == _bare(choice.spec):
            recorded = self.plugins.resolve("generator", scope.recorded, Path.cwd())
        device = resolve_device(scope.device).type
        return choice.settled(RunLength(pictures * scope.copies, scope.steps, device), recorded)

    def build(self, choice: Component | Named[Any]) -> Named[Any]:
        if not isinstance(choice, Component):
            return choice
        return Named(choice.spec, choice.build(), self.plugins.version_of(choice.info.kind, choice.spec))

    def defaults(
        self, kind: str, generator: Component | Named[Any] | None = None
    ) -> list[Component | Named[Any]]:
        """Return the default components of a kind; see :func:`resolve_components`."""
        if generator is not None and not isinstance(generator, Component) and self._plugins is None:
            return []
        requested = [plugin for plugin in self.plugins.plugins if plugin.requested and plugin.loaded]
        pool = [info for plugin in requested for info in plugin.components if info.kind == kind]
        if not pool and isinstance(generator, Component):
            pool = list(self.plugins.companions(generator, kind))
        elif not pool and generator is None:
            pool = list(self.plugins.components(kind))
        marked = [info for info in pool if info.default]
        ready = [
            info
            for info in pool
            if info.default is not False and not any(option.required for option in info.options)
        ]
        return [self.plugins.resolve(kind, info.qualified) for info in marked or ready]
