"""Register surveys: the command ``survey``, and a section with results in the report of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidelens.hookspecs import RegisterReportSections, hookimpl

if TYPE_CHECKING:
    import click
    from guidelens.studies.results import StudyResults


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add ``guidelens survey``."""
    from .cli import survey

    cli.add_command(survey)


@hookimpl
def register_report_sections(register: RegisterReportSections) -> None:
    """Add the results of the surveys in a study's directory."""
    register("people", _sections, title="What people said")


def _sections(study: StudyResults) -> Sequence[tuple[str, str]]:
    from .figure import study_sections

    return study_sections(study.directory)
