"""``guidelens study report``: verdicts on claims, in the terminal and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guidelens.errors import GuidelensError
from guidelens.words import plural

from . import console
from .options import get_manager
from .outputs import open_page
from .paths import UserPath

if TYPE_CHECKING:
    from guidelens.claims.evaluate import Verdict
    from guidelens.claims.questions import Claim
    from guidelens.plugins import PluginManager
    from guidelens.studies.results import StudyResults


@click.command("report")
@click.argument("directory", metavar="DIR", type=UserPath(path_type=Path))
@click.option("--open", "open_it", is_flag=True, help="Open the report in the browser.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
@click.option("--all", "everything", is_flag=True, help="Also list the questions that were not measured.")
@click.pass_context
def report_command(
    ctx: click.Context, directory: Path, open_it: bool, as_json: bool, everything: bool
) -> None:
    """Print verdicts on claims for the study in DIR and write report.html.

    Plugins register the claims. The verdicts on an unfinished study are marked as interim.
    """
    from guidelens.claims.table import as_dicts, verdict_lines
    from guidelens.runs.integrity import again
    from guidelens.studies.results import load_study

    loaded = load_study(directory)
    loaded.check_scores()
    if damaged := loaded.damaged():
        console.echo_line(
            "warning",
            f"{plural(len(damaged), 'file')} missing or damaged, {damaged[0]} first; {again(directory)}",
        )
    path, verdicts = write_report(directory, get_manager(ctx), loaded)
    if as_json:
        click.echo(json.dumps(as_dicts(verdicts), indent=2, ensure_ascii=False))
    else:
        missing = sum(cell["status"] != "done" for cell in loaded.keys.values())
        if missing:
            console.echo_line(
                "warning",
                f"{missing} of {plural(len(loaded.keys), 'picture')} missing: every verdict is interim",
            )
        for line in verdict_lines(verdicts, everything=everything):
            click.echo(line)
        console.out().print(f"report: {path}", markup=False, soft_wrap=True)
    if open_it:
        open_page(path)


def write_report(
    directory: Path, manager: PluginManager, loaded: StudyResults | None = None
) -> tuple[Path, list[Verdict]]:
    """Test the claims of plugins on a study and write its page. Return the path of the page and the verdicts.

    :param loaded: the study, if the caller has already read it.
    """
    from guidelens.claims.evaluate import evaluate
    from guidelens.report.study import write_study_report
    from guidelens.studies.results import load_study

    loaded = loaded or load_study(directory)
    verdicts = evaluate(loaded, claims_of(manager, loaded))
    return write_study_report(loaded, verdicts, manager.report_sections()), verdicts


def claims_of(manager: PluginManager, loaded: StudyResults) -> list[Claim]:
    """Return the claims of the loaded plugins, and of the plugins that the study was run with if they are installed."""
    try:
        return manager.including(loaded.plugins()).claims()
    except GuidelensError as error:
        console.echo_line("warning", f"claims of plugins of this study are not asked: {error}")
        return manager.claims()
