"""The hooks a plugin may implement. Mark implementations with :data:`guidelens.hookimpl`.

Each hook hands over lazily built components through ``register``; registering must be cheap (no torch, no weights).
The entry-point group is ``guidelens``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    import click

    from guidelens.claims.questions import Claim
    from guidelens.studies.results import StudyResults
    from guidelens.weights import WeightsFile

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
        install: Sequence[str] = (),
        default: bool | None = None,
    ) -> None:
        """Offer a component.

        :param name: lower-case name, as spelled on the command line (letters, digits, ``-``, ``_``, ``.``).
        :param factory: builds the component when it is asked for; its keyword parameters are the component's
            options, their annotations (``int``, ``float``, ``bool``, ``str``, ``Path``, ``Literal``, optional;
            ``Annotated[Component, KIND]`` for the spelling of another component) and defaults are checked and
            shown to the user, with what ``:param NAME:`` in its docstring says.
        :param summary: one line for ``guidelens plugins show``.
        :param requires: names of Python modules that the factory imports; if one is missing, an error names the
            package to install instead of being shown an ImportError.
        :param install: what pip is to install for ``requires``, such as ``["mine[extra]"]``. Needed only where
            that cannot be found: it is the extra, or the requirement, under which the plugin's distribution
            lists the package, or else the module's name.
        :param default: used where the user names no component of this kind. None: so are schedules and metrics
            without required options, where no other is marked. False: used only when named.
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


class RegisterWeights(Protocol):
    """The callback handed to ``register_weights``."""

    def __call__(self, file: WeightsFile, /) -> None:
        """Offer a file to ``guidelens weights``.

        :param file: its name must be no other file's; two plugins that need one file may register equal ones.
        """
        ...


@hookspec
def register_weights(register: RegisterWeights) -> None:
    """Name files that components need (:class:`guidelens.weights.WeightsFile`): where they are published, and how
    to recognise them."""


class RegisterStudies(Protocol):
    """The callback handed to ``register_studies``."""

    def __call__(self, name: str, path: str | Path, *, summary: str) -> None:
        """Offer a study to ``guidelens study run NAME``.

        :param name: lower-case, as component names are.
        :param path: of the study file; it is read when the study is run.
        :param summary: one line for ``guidelens study ls``.
        """
        ...


@hookspec
def register_studies(register: RegisterStudies) -> None:
    """Name study files that users can run by name."""


class RegisterClaims(Protocol):
    """The callback handed to ``register_claims``."""

    def __call__(self, claim: Claim, /) -> None:
        """Offer a claim to ``guidelens study report``.

        :param claim: its id must be no other claim's.
        """
        ...


@hookspec
def register_claims(register: RegisterClaims) -> None:
    """Offer claims (:class:`guidelens.claims.questions.Claim`): questions that are asked of studies. Called when a
    study is reported, not at every start."""


class RegisterReportSections(Protocol):
    """The callback handed to ``register_report_sections``."""

    def __call__(
        self, name: str, render: Callable[[StudyResults], Sequence[tuple[str, str]]], *, title: str
    ) -> None:
        """Add a section to the page of ``guidelens study report``.

        :param name: lower-case, as component names are; no other section may have it.
        :param render: takes the study and returns parts, each a heading and HTML; no part: no section. The HTML
            is put on the page as it is: self-contained, with headings from level 3 on and without ids.
        :param title: what the page's navigation calls the section.
        """
        ...


@hookspec
def register_report_sections(register: RegisterReportSections) -> None:
    """Add sections to the page of a study (:class:`guidelens.studies.results.StudyResults`)."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add click commands to the command line."""
