"""The options that choose prompts, shared by the commands that draw several."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .completion import complete_component
from .sections import option

if TYPE_CHECKING:
    from guidelens.contracts import Prompt
    from guidelens.plugins import Component, PluginManager

F = TypeVar("F", bound=Callable[..., Any])

DRAWING = "What to draw"
"""The section of the help that lists these options."""


@dataclass(frozen=True)
class PromptChoice:
    """The prompts that a command line requests. Nothing is read yet.

    :param texts: the arguments PROMPT.
    :param prompt_set: the value of ``--prompts``: a prompt set, a file, or ``-`` for standard input.
    :param limit: maximum number of prompts; None: all.
    """

    texts: tuple[str, ...] = ()
    prompt_set: str | None = None
    limit: int | None = None

    def read(self, plugins: PluginManager, generator: Component) -> list[Prompt]:
        """Return the prompts. Without any choice, return those of the default prompt set.

        :param generator: its namesake among the prompt sets of its plugin is the default.
        :raises UsageError: for a prompt set that does not exist, or a file that holds no prompts.
        """
        from guidelens.prompts import read_prompts
        from guidelens.runs.config import as_prompts
        from guidelens.text import STDIN

        found: Sequence[str | Prompt]
        if self.texts:
            found = self.texts
        elif self.prompt_set == STDIN:
            found = read_prompts(STDIN)
        else:
            found = [*plugins.build("prompts", self.prompt_set, beside=generator)]
        return [*as_prompts(found[: self.limit])]

    def after_reading(self, prompts: Sequence[Prompt]) -> PromptChoice:
        """Return a choice that selects ``prompts`` again. Prompts from standard input become texts."""
        from guidelens.text import STDIN

        return PromptChoice(tuple(p.text for p in prompts)) if self.prompt_set == STDIN else self

    def options(self) -> list[str]:
        """Return the options of this choice as words of a command line, without the texts."""
        words = ["--prompts", self.prompt_set] if self.prompt_set is not None else []
        return [*words, *(["--limit", str(self.limit)] if self.limit is not None else [])]


def prompt_options(*, limit: int | None) -> Callable[[F], F]:
    """Add PROMPT, ``--prompts`` and ``--limit`` to a command. Its function receives ``chosen``, a PromptChoice.

    :param limit: the default of ``--limit``; None: all prompts.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(
            *args: Any, prompts: tuple[str, ...], prompt_set: str | None, limit: int | None, **kwargs: Any
        ) -> Any:
            if prompts and prompt_set is not None:
                from guidelens.errors import UsageError

                raise UsageError(f"give either PROMPT or --prompts {prompt_set}, not both", setting="prompts")
            return function(*args, chosen=PromptChoice(prompts, prompt_set, limit), **kwargs)

        decorated: Any = wrapper
        for declare in reversed(_declarations(limit)):
            decorated = declare(decorated)
        return decorated

    return decorate


def _declarations(limit: int | None) -> list[Callable[[Any], Any]]:
    default = "all" if limit is None else limit
    return [
        click.argument("prompts", metavar="[PROMPT]...", nargs=-1),
        option(
            "--prompts",
            "prompt_set",
            metavar="SET",
            shell_complete=complete_component("prompts"),
            section=DRAWING,
            help="Prompt set or file of prompts, used if no PROMPT is given; - reads standard input. "
            "See docs/prompts.md.",
        ),
        option(
            "--limit",
            type=click.IntRange(min=1),
            default=limit,
            section=DRAWING,
            help=f"Maximum number of prompts.  [default: {default}]",
        ),
    ]
