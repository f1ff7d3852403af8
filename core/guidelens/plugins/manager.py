"""The plugin manager. It loads plugins one by one, and only it calls their hooks. A failing plugin does not affect
others. It is an error only if the user asked for this plugin or for one of its components.
"""

from __future__ import annotations

import inspect
import logging
import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pluggy

from guidelens import hookspecs
from guidelens.contracts import CONTRACT_VERSION
from guidelens.errors import GuidelensError, UsageError
from guidelens.guarding import captured_output, one_line

from .components import KINDS, Component, ComponentInfo, SectionInfo, StudyInfo
from .joint import JOINED, join
from .registering import Registrar, check_name
from .requirements import documentation, normalized, pip_command, requirements_of
from .sources import Source, entry_point_sources, find_source, object_source
from .spelling import parse_component, split_components, suggestion

if TYPE_CHECKING:
    import click

    from guidelens.claims.questions import Claim
    from guidelens.weights import WeightsFile

logger = logging.getLogger(__name__)

T = TypeVar("T")

ENVIRONMENT = "GUIDELENS_PLUGINS"
"""Environment variable with plugins to load or block, separated by commas."""

Status = Literal["ok", "blocked", "missing dependency", "broken"]


class PluginError(GuidelensError):
    """A plugin that cannot be used, and why."""


@dataclass(eq=False)
class PluginInfo:
    """A plugin.

    :param requested: whether the user asked for it by name.
    :param message: why it cannot be used, fully or in part; one line.
    :param error: the exception behind the message.
    :param loaded: whether its components can be chosen, even if a part of it failed.
    :param hooks: names of the hooks it implements.
    :param components: its components; for a broken plugin those registered before the error.
    :param blocked_by: the request that blocked it, such as ``no:NAME``.
    :param stated_docs: its ``guidelens_docs``: the address of its documentation.
    """

    source: Source
    requested: bool = False
    status: Status = "ok"
    message: str = ""
    error: BaseException | None = None
    loaded: bool = False
    hooks: tuple[str, ...] = ()
    components: list[ComponentInfo] = field(default_factory=list)
    stated_docs: str = ""
    blocked_by: str = ""

    @property
    def name(self) -> str:
        """Its name for users."""
        return self.source.name

    @property
    def title(self) -> str:
        """Its name in messages: ``plugin 'x' (dist 1.0)``."""
        dist = f" ({self.source.dist} {self.source.version})" if self.source.dist else ""
        return f"plugin {self.name!r}{dist}"

    @property
    def version(self) -> str:
        """``distribution version, hash of its code``; without a distribution, only the hash."""
        source = self.source
        return f"{source.dist} {source.version}, {source.code_hash}" if source.dist else source.code_hash

    @property
    def docs(self) -> str:
        """Address of its documentation, from the plugin or its distribution; empty if neither states one."""
        return self.stated_docs or documentation(self.source.dist)

    @property
    def details(self) -> str:
        """The traceback of the failure; empty if there is none."""
        return "".join(traceback.format_exception(self.error)) if self.error is not None else ""

    def fail(self, status: Status, message: str, error: BaseException | None = None) -> None:
        """Record a failure."""
        self.status, self.message, self.error = status, message, error


class PluginManager:
    """The plugins of a run and their components. :meth:`load` makes one."""

    def __init__(self) -> None:
        self._hooks = pluggy.PluginManager(hookspecs.PROJECT_NAME)
        self._hooks.add_hookspecs(hookspecs)
        self._plugins: list[PluginInfo] = []
        self._objects: dict[PluginInfo, Any] = {}

    @classmethod
    def load(
        cls, requests: Iterable[str | object] = (), *, environment: Mapping[str, str] | None = None
    ) -> PluginManager:
        """Load the installed and the requested plugins.

        :param requests: values of ``--plugin``: an entry-point name (or ``distribution/name``), a module, a path to a
            ``.py`` file, or ``no:X`` to block a plugin; from Python also a module or an object with hooks. The last
            request for a plugin counts.
        :param environment: variables with ``GUIDELENS_PLUGINS``, which is read before ``requests``; None:
            ``os.environ``.
        :raises UsageError: a request matches no plugin or several.
        :raises PluginError: a requested plugin cannot be used.
        """
        manager = cls()
        stated = (os.environ if environment is None else environment).get(ENVIRONMENT, "")
        listed = [part.strip() for part in stated.split(",") if part.strip()]
        manager._plugins = [PluginInfo(source) for source in entry_point_sources()]
        for request in (*listed, *requests):
            manager._take(request)
        for plugin in manager._plugins:
            if plugin.status != "blocked":
                manager._start(plugin)
                manager._report(plugin)
        return manager

    # -- what there is

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """All plugins, including blocked and broken ones."""
        return tuple(self._plugins)

    def including(self, requests: Iterable[str]) -> PluginManager:
        """Return these plugins and the requested ones."""
        asked = self.requests()
        missing = [request for request in requests if request not in asked]
        return PluginManager.load([*missing, *asked]) if missing else self

    def requests(self) -> list[str]:
        """Return requests with which :meth:`load` requests and blocks the same plugins."""
        requests = []
        for plugin in self._plugins:
            source = plugin.source
            if plugin.requested and plugin.loaded:
                requests.append(source.name if source.dist else source.module or source.origin)
            elif plugin.blocked_by:
                requests.append(plugin.blocked_by)
        return requests

    def plugin(self, name: str) -> PluginInfo:
        """Return the plugin with this name.

        :raises UsageError: there is none, or several.
        """
        source = find_source(name, [plugin.source for plugin in self._plugins])
        for plugin in self._plugins:
            if plugin.source is source:
                return plugin
        raise UsageError(f"plugin {name!r} is not loaded; add -p {name}")

    def components(self, kind: str | None = None) -> tuple[ComponentInfo, ...]:
        """Return the registered components of a kind, or of all kinds."""
        return tuple(
            component
            for plugin in self._plugins
            if plugin.loaded
            for component in plugin.components
            if kind in (None, component.kind)
        )

    def named(self, text: str, kind: str | None = None) -> tuple[ComponentInfo, ...]:
        """Return the components with a name: ``name``, ``plugin/name`` or ``distribution/name``. May be empty."""
        owner, _, name = text.rpartition("/")
        return tuple(info for info in self.components(kind) if info.name == name and _owned_by(info, owner))

    def companions(self, component: Component | ComponentInfo, kind: str) -> tuple[ComponentInfo, ...]:
        """Return the components of ``kind``, for example the metrics, from the plugin of ``component``."""
        owner = self.owner(component)
        return tuple(other for other in owner.components if other.kind == kind) if owner else ()

    def owner(self, component: Component | ComponentInfo) -> PluginInfo | None:
        """Return the plugin that offers ``component``; None for one of another manager."""
        info = component.info if isinstance(component, Component) else component
        return next((plugin for plugin in self._plugins if info in plugin.components), None)

    def versions(self) -> dict[str, str]:
        """Return the :attr:`PluginInfo.version` of every usable plugin by name."""
        return {plugin.name: plugin.version for plugin in self._plugins if plugin.loaded}

    def version_of(self, kind: str, spec: str) -> dict[str, str]:
        """Return names and versions of the plugins of a component, of its parts, and of components in its options."""
        return self._versions_of(self.resolve(kind, spec))

    def _versions_of(self, component: Component) -> dict[str, str]:
        owner = self.owner(component)
        found = {} if owner is None else {owner.name: owner.version}
        for other in (*component.parts, *component.options.values()):
            if isinstance(other, Component):
                found |= self._versions_of(other)
        return found

    # -- choosing and building

    def resolve(
        self,
        kind: str,
        spec: str | None = None,
        base: Path | None = None,
        *,
        beside: Component | None = None,
    ) -> Component:
        """Return the component for a spelling, or the default of its kind. It is not built yet.

        :param spec: ``name``, ``plugin/name`` or ``distribution/name``, with options as ``:key=value,key=value``.
            Guidance models may be several, ``a,b:key=value``; see :mod:`.joint`.
        :param base: folder for relative paths in options, which become absolute; None leaves them as they are.
        :param beside: a generator. The default is then the component with the same name of the same plugin, if there is
            one: the generator of an embedded world is guided by the model of that world.
        :raises UsageError: no plugin or several plugins offer this name, or an option is invalid.
        :raises PluginError: the plugin of the component is broken.
        """
        resolve = partial(self.resolve, base=base)
        if kind == JOINED and spec is not None and len(several := split_components(spec)) > 1:
            return join(several, resolve)
        if spec is None:
            info = self._default(kind, beside)
            given: dict[str, str] = {}
        else:
            name, given = parse_component(spec)
            info = self._find(kind, name)
        same = [other for other in self.components(kind) if other.name == info.name]
        spelled = None if len(same) == 1 else self._telling(info, same)
        return info.configure(given, spelled=spelled, resolve=resolve, base=base)

    def build(self, kind: str, spec: str | None = None, *, beside: Component | None = None) -> Any:
        """Resolve and build.

        :raises UsageError, GuidelensError: as :meth:`resolve` and :meth:`Component.build`.
        """
        return self.resolve(kind, spec, beside=beside).build()

    def _find(self, kind: str, text: str) -> ComponentInfo:
        owner, _, name = text.rpartition("/")
        on_offer = self.components(kind)
        named = self.named(text, kind)
        if len(named) == 1:
            return named[0]
        noun = KINDS[kind].noun
        if named:
            choices = " or ".join(self._telling(info, named) for info in named)
            owners = ", ".join(info.plugin + (f" ({info.dist})" if info.dist else "") for info in named)
            raise UsageError(f"several plugins offer the {noun} {text!r}: {owners}; say {choices}")
        self._blame(kind, owner, name)
        names = [info.name for info in on_offer]
        if hint := self._file_hint(kind, text):
            raise UsageError(f"unknown {noun} {text!r}; {hint}")
        where = f"; choose {', '.join(dict.fromkeys(names))}" if names else f"; no plugin offers a {noun}"
        raise UsageError(f"unknown {noun} {text!r}{suggestion(name, names)}{where}{self._unusable()}")

    def _file_hint(self, kind: str, text: str) -> str:
        """Return a hint how to spell a file as a component, if ``text`` is a file."""
        if not Path(text).expanduser().exists():
            return ""
        readers = [(info.name, option) for info in self.components(kind) if (option := info.path_option)]
        needing = [(name, option.name) for name, option in readers if option.required]
        spellings = [f"{name}:{path}={text}" for name, path in needing or ((n, o.name) for n, o in readers)]
        return f"it is a file here: write {' or '.join(spellings)}" if spellings else ""

    def _telling(self, info: ComponentInfo, among: Sequence[ComponentInfo]) -> str:
        """Return a unique spelling of a component."""
        if sum(other.plugin == info.plugin for other in among) == 1 or not info.dist:
            return info.qualified
        return f"{info.dist}/{info.name}"

    def _blame(self, kind: str, owner: str, name: str) -> None:
        """Raise the failure of the plugin that should offer ``name``, if it is known."""
        for plugin in self._plugins:
            if plugin.status in ("broken", "missing dependency") and not plugin.loaded:
                named = any(c.kind == kind and c.name == name for c in plugin.components)
                if named or plugin.source.answers_to(owner or name):
                    raise PluginError(
                        f"{KINDS[kind].noun} {name!r} is not there: {plugin.title} {plugin.message}"
                    ) from plugin.error

    def _unusable(self) -> str:
        """Return a note about broken plugins, which may offer the missing component."""
        blocked = [plugin.name for plugin in self._plugins if plugin.status == "blocked"]
        broken = [plugin.name for plugin in self._plugins if plugin.status != "blocked" and not plugin.loaded]
        notes = [f"blocked: {', '.join(blocked)}"] if blocked else []
        notes += [f"not usable: {', '.join(broken)} (see `guidelens plugins list`)"] if broken else []
        return "".join(f"; {note}" for note in notes)

    def _default(self, kind: str, beside: Component | None = None) -> ComponentInfo:
        """Return the default component of a kind.

        If exactly one requested plugin offers the kind, it is the plugin's default or only component. Otherwise it is
        the namesake of the generator ``beside``, or else the default or only component of all plugins.
        """
        on_offer = self.components(kind)
        requested = [plugin for plugin in self._plugins if plugin.requested and plugin.loaded]
        offers = [[c for c in plugin.components if c.kind == kind] for plugin in requested]
        theirs = [component for offer in offers for component in offer]
        if sum(map(bool, offers)) > 1:
            raise self._undecided(kind, theirs)
        near = self.companions(beside, kind) if beside else ()
        namesakes = [info for info in near if beside and info.name == beside.info.name]
        for pool in (theirs, namesakes, on_offer):
            marked = [info for info in pool if info.default]
            if len(marked) > 1:
                raise self._undecided(kind, marked)
            if marked or len(pool) == 1:
                return (marked or pool)[0]
        if on_offer:
            raise self._undecided(kind, on_offer)
        raise UsageError(f"no plugin offers a {KINDS[kind].noun}{self._unusable()}")

    def _undecided(self, kind: str, candidates: Sequence[ComponentInfo]) -> UsageError:
        names = [info.name for info in candidates]
        spellings = [
            info.name if names.count(info.name) == 1 else self._telling(info, candidates)
            for info in candidates
        ]
        option = KINDS[kind].option
        return UsageError(
            f"no single {KINDS[kind].noun} to use; choose with {option}: {', '.join(spellings)}"
        )

    # -- what is not a component

    def commands(self) -> list[tuple[PluginInfo, str, click.Command]]:
        """Return the plugins' commands, each with its plugin and name. Names may be repeated."""
        import click

        def ask(plugin: PluginInfo, hook: Callable[..., Any]) -> list[tuple[PluginInfo, str, click.Command]]:
            group = click.Group(plugin.name)  # a separate group, so that no plugin replaces another's command
            hook(cli=group)
            for name, command in group.commands.items():
                if not isinstance(command, click.Command):
                    raise TypeError(
                        f"the command {name!r} is a {type(command).__name__}, not a click command"
                    )
                command.get_short_help_str()  # raises now, not while the help of all commands is written
            return [(plugin, name, command) for name, command in group.commands.items()]

        return self._ask_all("register_commands", ask)

    def weights(self) -> list[tuple[PluginInfo, WeightsFile]]:
        """Return the registered weights files, each with the first plugin that registers it."""
        return self._handed_over("register_weights", "WeightsFile", "name")

    def claims(self) -> list[Claim]:
        """Return the claims that plugins register."""
        return [claim for _, claim in self._handed_over("register_claims", "Claim", "id")]

    def _handed_over(self, hook: str, what: str, key: str) -> list[tuple[PluginInfo, Any]]:
        """Return what plugins register through a hook, each once. If a name is taken already, the second plugin
        fails.

        :param what: the class of the registered objects.
        :param key: the attribute with their name.
        """
        found: dict[str, tuple[PluginInfo, Any]] = {}

        def ask(plugin: PluginInfo, call: Callable[..., Any]) -> list[Any]:
            theirs: list[Any] = []
            call(register=theirs.append)
            for item in theirs:
                name = getattr(item, key, None)
                if not isinstance(name, str):
                    raise TypeError(f"register takes a {what}, not a {type(item).__name__}")
                owner, other = found.setdefault(name, (plugin, item))
                if other != item:
                    raise ValueError(f"another {what} is called {name!r} in {owner.title}")
            return []

        self._ask_all(hook, ask)
        return list(found.values())

    def studies(self) -> list[StudyInfo]:
        """Return the plugins' study files. Names may be repeated."""

        def ask(plugin: PluginInfo, hook: Callable[..., Any]) -> list[StudyInfo]:
            theirs: list[StudyInfo] = []

            def register(name: str, path: str | Path, *, summary: str) -> None:
                check_name("study", name)
                theirs.append(StudyInfo(name, Path(path), summary, plugin.name))

            hook(register=register)
            return theirs

        return self._ask_all("register_studies", ask)

    def report_sections(self) -> list[SectionInfo]:
        """Return the plugins' sections for the page of a study. Names are unique."""
        found: dict[str, SectionInfo] = {}

        def ask(plugin: PluginInfo, hook: Callable[..., Any]) -> list[SectionInfo]:
            theirs: list[SectionInfo] = []

            def register(name: str, render: Callable[..., Any], *, title: str) -> None:
                check_name("report section", name)
                if name in found:
                    raise ValueError(f"report section {name!r} is offered by plugin {found[name].plugin!r}")
                found[name] = SectionInfo(name, render, title, plugin.name)
                theirs.append(found[name])

            hook(register=register)
            return theirs

        return self._ask_all("register_report_sections", ask)

    def _ask_all(self, hook: str, ask: Callable[[PluginInfo, Callable[..., Any]], list[T]]) -> list[T]:
        """Call ``ask`` for each plugin that implements ``hook``, and collect the results. A failing plugin adds
        nothing."""
        found: list[T] = []
        for plugin in self._plugins:
            if not plugin.loaded or hook not in plugin.hooks:
                continue
            try:
                with captured_output(plugin.title):
                    found += ask(plugin, self._caller(hook, plugin))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever a plugin raises
                plugin.fail("broken", f"failed in {hook}: {one_line(error)}", error)
                self._report(plugin)
        return found

    # -- loading

    def _take(self, request: str | object) -> None:
        """Store a request: its plugin, and whether to load or block it."""
        known = [plugin.source for plugin in self._plugins]
        if not isinstance(request, str):
            self._plugins.append(PluginInfo(object_source(request), requested=True))
            return
        if request.startswith("no:"):
            self._block(request[3:], known)
            return
        source = find_source(request, known)
        for plugin in self._plugins:
            if plugin.source is source:
                plugin.requested, plugin.status, plugin.message, plugin.blocked_by = True, "ok", "", ""
                return
        self._plugins.append(PluginInfo(source, requested=True))

    def _block(self, name: str, known: Sequence[Source]) -> None:
        matches = [plugin for plugin in self._plugins if plugin.source.answers_to(name)]
        for plugin in matches:
            plugin.requested = False
            plugin.blocked_by = f"no:{name}"
            plugin.fail("blocked", f"blocked by no:{name}")
        if not matches:
            near = suggestion(name, [source.name for source in known])
            logger.warning("no:%s blocks nothing: no plugin is called that%s", name, near)

    def _start(self, plugin: PluginInfo) -> None:
        """Import a plugin, check it, register it, and collect its components. Errors are recorded."""
        try:
            with captured_output(plugin.title):
                loaded = plugin.source.load()
                instance = loaded() if inspect.isclass(loaded) else loaded
                self._admit(plugin, instance)
        except KeyboardInterrupt:
            raise
        except ModuleNotFoundError as error:
            self._missing_module(plugin, error)
        except BaseException as error:  # a plugin that calls sys.exit must not end the program
            plugin.fail("broken", f"failed to load: {one_line(error)}", error)

    def _admit(self, plugin: PluginInfo, instance: Any) -> None:
        """Check an imported plugin, register it, and collect its components."""
        if any(other is instance for other in self._objects.values()):
            # Loaded already under another name, which is kept.
            first = next(p for p, other in self._objects.items() if other is instance)
            first.requested = first.requested or plugin.requested
            plugin.fail("blocked", f"the same as {first.title}")
            return
        fault = self._fault(plugin, instance)
        if fault:
            plugin.fail("broken", fault)
            return
        try:
            self._hooks.register(instance, name=f"{plugin.source.dist}:{plugin.name}:{id(plugin)}")
        except Exception as error:  # pluggy checks the hooks' arguments
            plugin.fail("broken", f"has an invalid hook: {one_line(error)}", error)
            return
        self._objects[plugin] = instance
        self._collect(plugin)

    def _missing_module(self, plugin: PluginInfo, error: ModuleNotFoundError) -> None:
        missing = (error.name or "").partition(".")[0]
        if missing and missing != plugin.source.module.partition(".")[0]:
            command = pip_command(*requirements_of((missing,), plugin.source.dist))
            plugin.fail("missing dependency", f"needs the module {error.name!r}: {command}", error)
        else:
            plugin.fail("broken", f"failed to load: {one_line(error)}", error)

    def _fault(self, plugin: PluginInfo, instance: Any) -> str:
        """Return why ``instance`` is not a plugin; empty if it is one. Its hooks are recorded."""
        version = getattr(instance, "guidelens_contract", CONTRACT_VERSION)
        if not isinstance(version, int):
            return f"declares guidelens_contract = {version!r}, and not an integer such as {CONTRACT_VERSION}"
        if version != CONTRACT_VERSION:
            cure = "upgrade guidelens" if version > CONTRACT_VERSION else "upgrade the plugin"
            return f"is written for contract version {version}, not {CONTRACT_VERSION}: {cure}"
        known = [name for name in vars(hookspecs) if name.startswith("register_")]
        hooks = []
        for attribute in dir(instance):
            marks = self._hooks.parse_hookimpl_opts(instance, attribute)
            if marks is None:
                continue
            name = marks.get("specname") or attribute
            if name in known:
                hooks.append(name)
            elif not marks.get("optionalhook"):
                near = suggestion(name, known) or f"; the hooks are {', '.join(known)}"
                return f"marks {name!r} as a hook, and there is no such hook{near}"
        if not hooks:
            return "implements no hook: mark its functions with guidelens.hookimpl"
        plugin.hooks = tuple(hooks)
        plugin.stated_docs = str(getattr(instance, "guidelens_docs", ""))
        return ""

    def _collect(self, plugin: PluginInfo) -> None:
        for kind in KINDS.values():
            if kind.hook not in plugin.hooks:
                continue
            try:
                self._caller(kind.hook, plugin)(register=Registrar(plugin, kind.name))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever a plugin raises
                self._hooks.unregister(self._objects.pop(plugin))
                plugin.fail("broken", f"failed in {kind.hook}: {one_line(error)}", error)
                return
        plugin.loaded = True
        plugin.status, plugin.message = _lacking(plugin.components)

    def _caller(self, hook: str, plugin: PluginInfo) -> Callable[..., Any]:
        """Return a caller of one plugin's implementation of ``hook``."""
        others = [other for owner, other in self._objects.items() if owner is not plugin]
        return self._hooks.subset_hook_caller(hook, others)

    def _report(self, plugin: PluginInfo) -> None:
        """Warn about a failed plugin once, or raise if the user asked for it. A plugin that lacks a dependency for
        some components can be used. Building such a component is an error.
        """
        if plugin.status in ("ok", "blocked") or (plugin.loaded and plugin.status == "missing dependency"):
            return
        message = f"{plugin.title} {plugin.message}"
        if plugin.requested:
            raise PluginError(message) from plugin.error
        logger.warning("%s; the rest works (guidelens plugins list -v tells more)", message)


def _lacking(components: Sequence[ComponentInfo]) -> tuple[Status, str]:
    """Return status and message of a loaded plugin, given the missing modules of its components."""
    missing: dict[str, None] = {}
    wanted: dict[str, None] = {}
    condition = ""
    for info in components:
        if info.missing:
            requirements, stated = info.requirements(info.missing)
            missing |= dict.fromkeys(info.missing)
            wanted |= dict.fromkeys(requirements)
            condition = stated or condition
    if not missing:
        return "ok", ""
    return "missing dependency", f"needs {', '.join(missing)}: {pip_command(wanted, condition)}"


def _owned_by(info: ComponentInfo, owner: str) -> bool:
    return (
        not owner or owner == info.plugin or (bool(info.dist) and normalized(owner) == normalized(info.dist))
    )
