"""``guidelens survey``: blinded ratings of a study's pictures by people, and what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from guidelens.cli import console
from guidelens.cli.paths import UserPath
from guidelens.errors import GuidelensError, UsageError
from guidelens.text import read_text
from guidelens.words import plural

if TYPE_CHECKING:
    from .statistics import Interval, SurveyResults

_FILE = click.argument("file", metavar="FILE", type=UserPath(path_type=Path))


@click.group()
def survey() -> None:
    """Ask people: blinded ratings of a study's pictures in a browser, and their statistics.

    A survey is one file: the design, the pictures, the votes. docs/survey.md goes through one from
    beginning to end.
    """


@survey.command("create")
@click.argument("study_dir", metavar="STUDY_DIR", type=UserPath(path_type=Path))
@click.option(
    "--design",
    type=click.Choice(("pairwise", "rating", "forced-choice")),
    default="pairwise",
    show_default=True,
    help="Two pictures, ties allowed; one picture, 1 to 5; or one of every condition, choose the best.",
)
@click.option(
    "--questions",
    default="realism,alignment",
    show_default=True,
    metavar="NAMES",
    help="Known questions: realism, alignment, preference.",
)
@click.option(
    "--question", "own", multiple=True, metavar="NAME=TEXT", help="A question of your own. Repeatable."
)
@click.option("--items", type=int, help="Items of each rater, extras aside.  [default: 20, or all there are]")
@click.option("--raters", type=int, default=10, show_default=True, help="Raters to plan for.")
@click.option("--repeats", type=click.IntRange(min=0), help="Items asked twice.  [default: a tenth]")
@click.option("--checks", type=click.IntRange(min=0), help="Items that say what to answer.  [default: 3]")
@click.option("--overlap", type=int, default=3, show_default=True, help="Raters per item to aim at.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the design.")
@click.option(
    "--compare",
    default="schedule",
    show_default=True,
    metavar="COLUMN",
    help="What the conditions differ in.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Take only such pictures. Repeatable.",
)
@click.option("--title", default="Pictures and sentences", show_default=True, help="What raters read on top.")
@click.option(
    "--consent",
    type=UserPath(path_type=Path, dir_okay=False, exists=True),
    help="A text file, a paragraph a line, in place of the built-in consent.",
)
@click.option("--contact", default="", metavar="TEXT", help="Whom raters can ask, at the foot of every page.")
@click.option(
    "--exclude-failed-checks",
    type=click.IntRange(min=0),
    metavar="N",
    help="Leave out raters who fail more checks than this.  [default: a third of the checks]",
)
@click.option(
    "--exclude-faster",
    type=float,
    metavar="SECONDS",
    help="Leave out raters whose median time per screen is shorter.  [default: 1]",
)
@click.option(
    "--min-answered",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Leave out raters who answer a smaller share of their screens.  [default: 0.5]",
)
@click.option(
    "--min-consistency",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Leave out raters who answer a smaller share of repeated questions alike.  [default: 0]",
)
@click.option(
    "--out",
    type=UserPath(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The survey's file.  [default: survey.db in STUDY_DIR]",
)
def create_command(
    study_dir: Path, questions: str, own: tuple[str, ...], where: tuple[str, ...], consent: Path | None,
    out: Path | None, exclude_failed_checks: int | None, exclude_faster: float | None,
    min_answered: float | None, min_consistency: float | None, **options: Any,
) -> None:  # fmt: skip
    """Create a balanced survey of the pictures in STUDY_DIR.

    STUDY_DIR holds a study or a comparison. The rules that exclude raters are fixed here, before the first
    answer.
    """
    from .create import create_survey, read_where
    from .store import DEFAULT_NAME

    rules = {
        "failed_checks": exclude_failed_checks,
        "seconds": exclude_faster,
        "answered": min_answered,
        "consistency": min_consistency,
    }
    if consent is not None:
        options["consent"] = read_text(consent, f"--consent {consent}")
    path = out if out is not None else study_dir / DEFAULT_NAME
    made = create_survey(
        study_dir,
        path,
        questions=[name for name in questions.split(",") if name.strip()] + list(own),
        where=read_where(where),
        rules={name: value for name, value in rules.items() if value is not None},
        **options,
    )
    meta = made.meta
    console.print_out(
        f"{plural(len(made.conditions), 'condition')} ({', '.join(made.conditions)}), "
        f"{plural(len(made.images()), 'picture')}"
    )
    screens = meta["items"] + meta["repeats"] + meta["checks"]
    console.print_out(
        f"{plural(meta['raters'], 'rater')}, {plural(screens, 'screen')} each: {plural(meta['items'], 'item')}, "
        f"{plural(meta['repeats'], 'repeat')}, {plural(meta['checks'], 'check')}"
    )
    console.print_out(f"survey: {path}\nnext: guidelens survey serve {path}")


@survey.command("serve")
@_FILE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen on."
)
@click.option(
    "--root-path", default="", metavar="PATH", help="Path below which a proxy shows it, such as /rate."
)
def serve_command(file: Path, host: str, port: int, root_path: str) -> None:
    """Serve the survey in FILE until Ctrl-C. Votes are on disk before they are confirmed.

    Only this machine can reach it, unless --host says otherwise; from elsewhere it opens with a
    link of "guidelens survey links" only.
    """
    from .store import SurveyFile

    opened = SurveyFile(file)
    try:
        from guidelens.serving import is_loopback, shown_host

        from .server import serve
    except ModuleNotFoundError as error:
        raise GuidelensError(
            f'serving a survey needs {error.name}: pip install "guidelens[survey]"'
        ) from None
    local = is_loopback(host)
    path = root_path.strip("/") + ("/" if root_path.strip("/") else "")
    path += "" if local else f"join/{opened.meta['open']}"
    if not local:
        console.echo_line("warning", "plain HTTP can be read on the way: put a proxy with TLS before it")

    def say(port: int) -> None:
        console.print_out(
            f"open link: http://{shown_host(host)}:{port}/{path}\nCtrl-C stops; the same command goes on"
        )

    serve(opened, host=host, port=port, root_path=root_path, on_listening=say)


@survey.command("links")
@_FILE
@click.option(
    "--url", default="http://127.0.0.1:8000", show_default=True, help="Where raters reach the server."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def links_command(file: Path, url: str, as_json: bool) -> None:
    """Print the open link and the personal links for raters.

    Any number of raters can use the open link. Each planned rater has one personal link.
    """
    from .store import SurveyFile

    opened = SurveyFile(file, read_only=True)
    base = url.rstrip("/")
    personal = [r for r in opened.raters() if r.source == "personal"]
    if as_json:
        found = [{"rater": r.id, "link": f"{base}/r/{r.code}", "completion": r.completion} for r in personal]
        click.echo(json.dumps({"open": f"{base}/join/{opened.meta['open']}", "personal": found}, indent=2))
        return
    console.print_out(f"{base}/join/{opened.meta['open']}")
    for rater in personal:
        console.print_out(f"{base}/r/{rater.code}")


@survey.command("results")
@_FILE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--out",
    type=UserPath(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write results.html, figure.svg and .png, results.json and votes.csv there.",
)
def results_command(file: Path, as_json: bool, out: Path | None) -> None:
    """Print what the votes in FILE say; also while the survey is running."""
    from .statistics import results
    from .store import SurveyFile

    opened = SurveyFile(file, read_only=True)
    found = results(opened)
    if out is not None:
        from .exchange import write_results

        written = write_results(opened, found, out)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    _print(found)
    if out is not None:
        console.print_out(f"written: {', '.join(map(str, written))}")


def _print(found: SurveyResults) -> None:
    from rich import box
    from rich.table import Table

    from .drawing import AXES
    from .figure import foresight, number

    screen = console.out()
    screen.print(
        f"{found.title}: answers of {plural(len(found.included), 'rater')} count, {plural(found.prompts, 'prompt')}",
        markup=False,
    )
    for rater in found.excluded:
        screen.print(f"left out: rater {rater.rater}: {'; '.join(rater.excluded)}", markup=False)
    if found.consistency is not None:
        screen.print(
            f"repeated questions were answered alike in {found.consistency:.0%} of cases", markup=False
        )
    for question in found.questions:
        table = Table(title=f"{question.name}: {question.text}", title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("", no_wrap=True)
        table.add_column(AXES[found.design], justify="right")
        if question.scores:
            table.add_column("score (log)", justify="right")
        for name, mean in question.means.items():
            cells = [mean, *([question.scores[name]] if question.scores else [])]
            table.add_row(name, *map(_interval, cells))
        screen.print(table)
        screen.print(
            f"{plural(question.n, 'answer')}; agreement (Krippendorff's alpha) {number(question.alpha)}"
            + (f" ({question.no_alpha})" if question.no_alpha else ""),
            markup=False,
        )
        if question.power:
            screen.print(foresight(question.power), markup=False)


def _interval(found: Interval) -> str:
    from .figure import number

    around = f" [dim]({number(found.low)} to {number(found.high)})[/dim]" if found.low == found.low else ""
    return number(found.value) + around


_FORMATS = ("offline", "label-studio", "mturk", "csv")


@survey.command("export")
@_FILE
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="offline",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--out", type=UserPath(path_type=Path), metavar="PATH", required=True,
    help="A directory (offline, label-studio, mturk), or a file (csv).",
)  # fmt: skip
@click.option("--url", default="", help="mturk: where the server has the pictures.")
def export_command(file: Path, form: str, out: Path, url: str) -> None:
    """Export the survey for raters without the server.

    The format csv exports the raw votes instead.
    """
    from .exchange import export
    from .store import SurveyFile

    if form == "mturk" and not url:
        raise UsageError("--format mturk needs --url: where the workers' browsers find the pictures")
    written = export(SurveyFile(file, read_only=True), form, out, url=url)
    console.print_out(
        f"{plural(len(written), 'file')}: {out}" if len(written) > 1 else f"written: {written[0]}"
    )


@survey.command("import")
@_FILE
@click.argument("answers", metavar="ANSWERS...", nargs=-1, required=True, type=UserPath(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS[:3]),
    default="offline",
    show_default=True,
    help="What they are.",
)
def import_command(file: Path, answers: tuple[Path, ...], form: str) -> None:
    """Read answers that came back into FILE. Reading a file twice changes nothing."""
    from .exchange import import_answers
    from .store import SurveyFile

    opened = SurveyFile(file)
    for path in answers:
        found = import_answers(opened, form, path)
        console.print_out(
            f"{path}: {plural(found.raters, 'rater')}, {plural(found.stored, 'vote')} stored, {found.known} were there"
        )
