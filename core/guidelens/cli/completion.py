"""Shell completion of components and plugins. Loads plugins, but not torch.

It uses the plugins of the command line that is completed: the installed ones, those of ``GUIDELENS_PLUGINS``, and
those of every ``-p`` before the cursor.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

if TYPE_CHECKING:
    from guidelens.plugins import ComponentInfo, PluginManager


SINGLE_KINDS = ("generator", "guidance", "prompts")
"""The kinds of which a command uses a single component. Only these have one default component."""


@add_completion_class
class Bash(BashComplete):
    """Completion in bash. Bash splits words at ``:`` and ``=``, and completes only the last part."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor and the word at the cursor, with split parts joined again."""
        words = split_arg_string(os.environ["COMP_WORDS"])[: int(os.environ["COMP_CWORD"]) + 1]
        at_word = len(words) == int(os.environ["COMP_CWORD"]) + 1
        whole: list[str] = []
        glue = False
        for word in words:
            is_break = bool(word) and not word.strip(":=")
            if whole and (glue or is_break):
                whole[-1] += word
                self._typed = whole[-1]
            else:
                whole.append(word)
                self._typed = ""
            glue = is_break
        if at_word:
            return whole[1:-1], whole[-1]
        self._typed = ""
        return whole[1:], ""

    def format_completion(self, item: CompletionItem) -> str:
        """Remove the part before the last split, because bash keeps that part."""
        value = self._typed.partition("=")[2] if self._typed.startswith("--") else self._typed
        closed = value[: max(value.rfind(":"), value.rfind("=")) + 1]
        return f"{item.type},{str(item.value).removeprefix(closed)}"


def without_open_option(args: Sequence[str]) -> list[str]:
    """Remove a ``-p`` at the end that has no value."""
    return [*args[:-1]] if "--" not in args and args[-1:] in (["-p"], ["--plugin"]) else [*args]


def load_quietly(requests: Sequence[str]) -> PluginManager:
    """Load plugins without messages. If a requested plugin fails, load only the installed ones."""
    from contextlib import redirect_stderr, redirect_stdout, suppress
    from io import StringIO

    from guidelens.errors import GuidelensError
    from guidelens.plugins import PluginManager

    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        for fewer, environment in ((requests, None), ((), None)):
            with suppress(GuidelensError):
                return PluginManager.load(fewer, environment=environment)
        return PluginManager.load(environment={})


@dataclass(frozen=True)
class ComponentCompleter:
    """Completes components of ``kind``, and their options after a colon."""

    kind: str

    def __call__(
        self, ctx: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the possible completions of ``incomplete``."""
        manager = _manager(ctx)
        if manager is None:
            return []
        name, colon, options = incomplete.partition(":")
        if colon:
            named = manager.named(name, self.kind)
            return _options(named[0], f"{name}:", options) if len(named) == 1 else []
        return _starting(incomplete, _spelled(manager.components(self.kind), qualified="/" in incomplete))

    def names(self, ctx: click.Context) -> list[str]:
        """Return the spellings of the components of this kind, for ``--help``."""
        manager = _manager(ctx)
        return (
            [name for name, _ in _spelled(manager.components(self.kind), qualified=False)] if manager else []
        )

    def default(self, ctx: click.Context) -> str:
        """Return the default component for ``--help``; empty if there is none."""
        from guidelens.errors import UsageError

        manager = _manager(ctx)
        if manager is None or self.kind not in SINGLE_KINDS:
            return ""
        try:
            return manager.resolve(self.kind).spec
        except UsageError:
            return ""


def complete_component(kind: str) -> ComponentCompleter:
    """Return a completer of components of ``kind``. The help of its option lists the components too."""
    return ComponentCompleter(kind)


def complete_plugin(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the value of ``-p``: a plugin's name, ``no:`` and a name, or a file."""
    names = _plugin_names(_manager(ctx))
    if incomplete.startswith("no:"):
        return _starting(incomplete, ((f"no:{name}", text) for name, text in names))
    # Bash drops completions that precede a file, so the file comes first.
    return [CompletionItem(incomplete, type="file"), *_starting(incomplete, names)]


def complete_component_or_plugin(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the argument of ``plugins show``."""
    manager = _manager(ctx)
    components = manager.components() if manager is not None else ()
    spelled = dict(_spelled(components, qualified="/" in incomplete))
    return _starting(incomplete, {**spelled, **dict(_plugin_names(manager))}.items())


def _manager(ctx: click.Context) -> PluginManager | None:
    from guidelens.plugins import PluginManager

    return ctx.find_object(PluginManager)


def _plugin_names(manager: PluginManager | None) -> list[tuple[str, str]]:
    plugins = manager.plugins if manager is not None else ()
    return [(plugin.name, plugin.message or plugin.source.origin) for plugin in plugins]


def _spelled(components: Iterable[ComponentInfo], *, qualified: bool) -> list[tuple[str, str]]:
    """Return the spelling and the summary of each component."""
    infos = list(components)
    keys = [(info.kind, info.name) for info in infos]
    return [
        (
            info.qualified if qualified or keys.count((info.kind, info.name)) > 1 else info.name,
            info.summary,
        )
        for info in infos
    ]


def _options(info: ComponentInfo, head: str, given: str) -> list[CompletionItem]:
    """Complete the last option in ``given``: its name, or its value if it has choices."""
    if "'" in given or '"' in given:  # a quoted value may contain any character, commas included
        return []
    before, comma, last = given.rpartition(",")
    head += before + comma
    key, equals, _ = last.partition("=")
    named = [option for option in info.options if option.name != "*"]
    if not equals:
        used = {part.partition("=")[0] for part in before.split(",")}
        fresh = [option for option in named if option.name not in used]
        return _starting(head + last, ((f"{head}{o.name}=", o.help or o.type_name) for o in fresh))
    choices = [choice for option in named if option.name == key for choice in option.choices]
    return _starting(head + last, ((f"{head}{key}={choice}", "") for choice in choices))


def _starting(prefix: str, candidates: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    return [CompletionItem(text, help=help_ or None) for text, help_ in candidates if text.startswith(prefix)]
