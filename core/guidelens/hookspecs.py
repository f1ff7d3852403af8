"""The hooks that a plugin can implement. Mark each implementation with :data:`guidelens.hookimpl`.

Each hook receives a callback ``register`` and calls it once per component. guidelens builds a component later, when it
is needed. Registering must be cheap: do not import torch or load weights. The entry-point group is ``guidelens``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class RunLength:
    """The size of a run, for options that pay only in long runs.

    :param pictures: number of pictures of the whole run, also those that exist already.
    :param steps: number of steps of each picture.
    :param device: kind of device: ``cpu``, ``cuda`` or ``mps``.
    """

    pictures: int
    steps: int
    device: str


class Register(Protocol):
    """The callback that every ``register_*`` hook for components receives."""

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
        """Offer a component.

        :param name: the name on the command line, in lower case (letters, digits, ``-``, ``_``, ``.``).
        :param factory: builds the component. Its keyword parameters are the component's options. guidelens checks
            values against their annotations: ``int``, ``float``, ``bool``, ``str``, ``Path``, ``Literal``, or one of
            these or None; ``Annotated[Component, KIND]`` takes the spelling of another component. It shows users the
            annotations, the defaults, and the ``:param NAME:`` texts of the docstring.
        :param summary: one line for ``guidelens plugins show``.
        :param requires: the names of Python modules that the factory imports. If one is missing, the user gets an
            error that names the package to install instead of an ImportError.
        :param install: the requirements that pip should install for ``requires``, such as ``["mine[extra]"]``. Without
            it, guidelens looks for the package among the extras and requirements of the plugin's distribution, and
            uses the module's name if it is not there. Give it only if this is wrong.
        :param default: True: used if the user names no component of this kind. False: used only when named. None: a
            schedule or metric without required options is used by default, if no other component is marked True.
        :param settle: for a generator with options that only the length of a run can decide. It receives the options
            and the length, and returns the options to replace. ``guidelens compare`` calls it before the factory and
            records the result. A directory keeps its decisions when the comparison is continued or grows. Other
            commands draw one picture at a time, or pass the options to the factory as they are.
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
    """The callback that ``register_weights`` receives."""

    def __call__(self, file: WeightsFile, /) -> None:
        """Offer a file to ``guidelens weights``.

        :param file: its name must differ from the names of all other files. Two plugins that need the same file may
            register equal descriptions of it.
        """
        ...


@hookspec
def register_weights(register: RegisterWeights) -> None:
    """Describe files that components need (:class:`guidelens.weights.WeightsFile`), with their URLs and hashes."""


class RegisterStudies(Protocol):
    """The callback that ``register_studies`` receives."""

    def __call__(self, name: str, path: str | Path, *, summary: str) -> None:
        """Offer a study to ``guidelens study run NAME``.

        :param name: a lower-case name, with the same characters as component names.
        :param path: the study file. It is read when the study is run.
        :param summary: one line for ``guidelens study ls``.
        """
        ...


@hookspec
def register_studies(register: RegisterStudies) -> None:
    """Offer study files that users can run by name."""


class RegisterClaims(Protocol):
    """The callback that ``register_claims`` receives."""

    def __call__(self, claim: Claim, /) -> None:
        """Offer a claim to ``guidelens study report``.

        :param claim: its id must differ from the ids of all other claims.
        """
        ...


@hookspec
def register_claims(register: RegisterClaims) -> None:
    """Offer claims (:class:`guidelens.claims.questions.Claim`) that reports test on studies.

    The hook is called when a report is written, not at every start.
    """


class RegisterReportSections(Protocol):
    """The callback that ``register_report_sections`` receives."""

    def __call__(
        self, name: str, render: Callable[[StudyResults], Sequence[tuple[str, str]]], *, title: str
    ) -> None:
        """Add a section to the page of ``guidelens study report``.

        :param name: a unique lower-case name, with the same characters as component names.
        :param render: takes the study and returns parts, each a heading and HTML. If it returns no parts, the section
            is left out. The HTML goes on the page unchanged. It must be self-contained, use headings of level 3 and
            below, and have no ids.
        :param title: the title of the section in the page's navigation.
        """
        ...


@hookspec
def register_report_sections(register: RegisterReportSections) -> None:
    """Add sections to the page of a study (:class:`guidelens.studies.results.StudyResults`)."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add click commands to the command line."""
