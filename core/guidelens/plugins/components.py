"""Components of plugins: their options are checked when one is chosen, and it is built when it is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens import contracts
from guidelens.errors import GuidelensError
from guidelens.guarding import captured_output, name_component, plugin_code

from .attributes import attribute_problem
from .requirements import is_installed, pip_command, requirements_of
from .spelling import format_component
from .values import OptionInfo, check_options, format_value, options_of

if TYPE_CHECKING:
    from guidelens.hookspecs import RunLength
    from guidelens.studies.results import StudyResults

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""Pattern for names of components."""


class UnfitComponent(GuidelensError):
    """The object that a factory returned does not fulfil the contract."""


@dataclass(frozen=True)
class Kind:
    """A kind of component.

    :param name: identifies it (:data:`KINDS`).
    :param noun: its name for users, singular.
    :param plural: its name for users, plural.
    :param hook: the hook that registers it.
    :param option: the command-line option that chooses one.
    :param protocol: the contract of built components; None: any sequence.
    :param several: whether a run uses several at once, so that a plugin may mark several as default.
    """

    name: str
    noun: str
    plural: str
    hook: str
    option: str
    protocol: type | None
    several: bool = False


_GUIDANCE = ("guidance", "guidance model", "guidance models", "register_guidance_models", "--guidance")

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "generator", "generator", "generators", "register_generators", "--generator", contracts.Generator
        ),
        Kind(*_GUIDANCE, contracts.GuidanceModel),
        Kind(
            "schedule", "schedule", "schedules", "register_schedules", "--schedule", contracts.Schedule, True
        ),
        Kind("metric", "metric", "metrics", "register_metrics", "--metric", contracts.Metric, True),
        Kind("prompts", "prompt set", "prompt sets", "register_prompt_sets", "--prompts", None),
    )
}
"""All kinds by name."""


@dataclass(frozen=True, eq=False)
class ComponentInfo:
    """A registered component.

    :param kind: one of :data:`KINDS`.
    :param name: as spelled on the command line.
    :param plugin: the plugin that offers it.
    :param dist: the distribution of that plugin; empty if it has none.
    :param summary: one line.
    :param requires: modules that its factory imports.
    :param default: whether it is used if the user names none of its kind; None: only if no other is.
    :param install: packages that provide ``requires``, if the plugin states them.
    :param settle: decides options by the length of the run, see :class:`guidelens.hookspecs.Register`.
    """

    kind: str
    name: str
    plugin: str
    dist: str
    summary: str
    factory: Callable[..., Any] = field(repr=False)
    requires: tuple[str, ...] = ()
    default: bool | None = None
    install: tuple[str, ...] = ()
    settle: Callable[[Mapping[str, Any], RunLength], Mapping[str, Any]] | None = field(
        default=None, repr=False
    )

    @cached_property
    def options(self) -> tuple[OptionInfo, ...]:
        """Its options, with types and defaults from the factory's signature."""
        with plugin_code(f"{self.title} of plugin {self.plugin!r}", "the signature of its factory"):
            return options_of(self.factory)

    @property
    def path_option(self) -> OptionInfo | None:
        """Its first option for a path, for hints about files given instead of its name."""
        return next((option for option in self.options if option.takes_path), None)

    @property
    def title(self) -> str:
        """Its name in messages: ``schedule 'shift'``."""
        return f"{KINDS[self.kind].noun} {self.name!r}"

    @property
    def qualified(self) -> str:
        """``plugin/name``, which is unique."""
        return f"{self.plugin}/{self.name}"

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules of ``requires`` that are not installed. They are not imported to find out."""
        return tuple(module for module in self.requires if not is_installed(module))

    def requirements(self, modules: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
        """Return the packages that pip installs for ``modules``, and the condition in the metadata for them."""
        if self.install and set(modules) <= set(self.requires):
            return self.install, ""
        return requirements_of(modules, self.dist)

    def configure(
        self,
        given: Mapping[str, str],
        *,
        spelled: str | None = None,
        resolve: Callable[[str, str], Component] | None = None,
        base: Path | None = None,
    ) -> Component:
        """Check options given as text.

        :param spelled: the spelling of this component, if the bare name is ambiguous.
        :param resolve: returns a component of a kind by its spelling, for options that take one.
        :param base: folder for relative paths, which become absolute; None leaves them as they are.
        :raises UsageError: an option or value is invalid.
        """
        values = check_options(self.title, self.options, given, resolve)
        if base is not None:
            known = {option.name: option for option in self.options}
            values = {n: known[n].located(v, base) if n in known else v for n, v in values.items()}
        return self.chosen(spelled or self.name, values)

    def chosen(self, name: str, values: Mapping[str, Any]) -> Component:
        """Return this component with checked options. ``name``: its spelling without them."""
        defaults = self.defaults
        written = [
            (option, format_value(value))
            for option, value in values.items()
            if option not in defaults or value != defaults[option]
        ]
        return Component(self, values, format_component(name, written))

    @property
    def defaults(self) -> dict[str, Any]:
        """The default of each option."""
        return {option.name: option.default for option in self.options}


@dataclass(frozen=True, eq=False)
class Component:
    """A chosen component with checked options, not built yet.

    :param options: the given values.
    :param spec: the canonical spelling: options in the factory's order, without those at their default.
    :param parts: the components of a spelling that names several.
    """

    info: ComponentInfo
    options: Mapping[str, Any]
    spec: str
    parts: tuple[Component, ...] = ()

    def __str__(self) -> str:
        return self.spec

    def settled(self, length: RunLength, recorded: Component | None = None) -> Component:
        """Return this component with the options decided that depend on the length of the run.

        :param recorded: the component with which the run was started. Its decisions hold.
        """
        if self.info.settle is None:
            return self
        with plugin_code(f"{self.info.title} of plugin {self.info.plugin!r}", "settle(options, length)"):
            decided = dict(self.info.settle(self.options, length))
        if recorded is not None and recorded.info.qualified == self.info.qualified:
            known = {**self.info.defaults, **recorded.options}
            decided = {name: known[name] for name in decided}
        return self.info.chosen(self.spec.partition(":")[0], {**self.options, **decided}) if decided else self

    def build(self) -> Any:
        """Run the factory, which may import modules and load files.

        :raises GuidelensError: a required module is missing (the message has the command that installs it), the
            factory raises, or its result does not fulfil the contract.
        """
        info = self.info
        if info.missing:
            raise GuidelensError(
                f"{info.title} of plugin {info.plugin!r} needs {_listed(info.missing)}, not installed here: "
                f"{pip_command(*info.requirements(info.missing))}"
            )
        who = f"{info.title} of plugin {info.plugin!r}"
        with plugin_code(who, "its factory"), captured_output(who):
            try:
                built = info.factory(**self.options)
            except ModuleNotFoundError as error:
                name = (error.name or "").partition(".")[0]
                raise GuidelensError(
                    f"{who} could not import {error.name!r}: {pip_command(*info.requirements((name,)))}"
                ) from error
            _check_contract(info, built)
        name_component(built, who)
        return built


@dataclass(frozen=True)
class SectionInfo:
    """A section of a study's page on offer, and the plugin that offers it.

    :param render: see :class:`guidelens.hookspecs.RegisterReportSections`.
    """

    name: str
    render: Callable[[StudyResults], Sequence[tuple[str, str]]]
    title: str
    plugin: str


@dataclass(frozen=True)
class StudyInfo:
    """A study file on offer, and the plugin that offers it."""

    name: str
    path: Path
    summary: str
    plugin: str


def _listed(modules: tuple[str, ...]) -> str:
    return f"the Python module{'s' if len(modules) > 1 else ''} {', '.join(modules)}"


def _check_contract(info: ComponentInfo, built: Any) -> None:
    protocol = KINDS[info.kind].protocol
    wanted = _members(protocol) if protocol is not None else ("__len__", "__getitem__")
    absent = [name for name in wanted if not hasattr(built, name)]
    if absent:
        raise UnfitComponent(
            f"{info.title} of plugin {info.plugin!r} is unusable: its factory returned a "
            f"{type(built).__name__}, which lacks {', '.join(absent)}"
        )
    if problem := attribute_problem(info.kind, built):
        raise UnfitComponent(f"{info.title} of plugin {info.plugin!r} is unusable: {problem}")


def _members(protocol: type) -> tuple[str, ...]:
    """Return the attributes and methods of a contract."""
    methods = [name for name in vars(protocol) if not name.startswith("_") or name == "__call__"]
    return tuple(dict.fromkeys([*protocol.__annotations__, *methods]))
