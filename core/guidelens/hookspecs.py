"""The hooks a plugin may implement. Mark implementations with :data:`guidelens.hookimpl`.

Each hook hands over lazily built components through ``register``; registering must be cheap (no torch, no weights).
The entry-point group is ``guidelens``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    import click

PROJECT_NAME = "guidelens"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


class Register(Protocol):
    """The callback handed to every ``register_*`` hook for components."""

    def __call__(
        self,
        name: str,
        factory: Callable[..., Any],
        *,
        summary: str,
        requires: Sequence[str] = (),
        default: bool = False,
    ) -> None:
        """Offer a component.

        :param name: lower-case name, as spelled on the command line (letters, digits, ``-``, ``_``, ``.``).
        :param factory: builds the component when it is asked for; its keyword parameters are the component's
            options, their annotations (``int``, ``float``, ``bool``, ``str``, ``Literal``, optional) and defaults
            are checked and shown to the user.
        :param summary: one line for ``guidelens plugins list``.
        :param requires: names of Python modules that the factory imports; when one is missing the user is told
            which package to install instead of being shown an ImportError.
        :param default: used where the user names no component of this kind.
        """
        ...


@hookspec
def register_generators(register: Register) -> None:
    """Offer diffusion models (:class:`guidelens.contracts.Generator`)."""


@hookspec
def register_guidance_models(register: Register) -> None:
    """Offer vision-language models (:class:`guidelens.contracts.GuidanceModel`)."""


@hookspec
def register_schedules(register: Register) -> None:
    """Offer schedules over objectives (:class:`guidelens.contracts.Schedule`)."""


@hookspec
def register_metrics(register: Register) -> None:
    """Offer metrics of finished images (:class:`guidelens.contracts.Metric`)."""


@hookspec
def register_prompt_sets(register: Register) -> None:
    """Offer prompt sets (a sequence of :class:`guidelens.contracts.Prompt`)."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add click commands to the command line."""
