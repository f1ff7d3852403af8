"""``guidelens survey``: blinded ratings of a study's pictures by people, and their statistics."""

from __future__ import annotations

import json
import tempfile
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
    from .store import SurveyFile

_FILE = click.argument("file", metavar="FILE", type=UserPath(path_type=Path))


@click.group()
def survey() -> None:
    """Collect blinded ratings of a study's pictures by people, and print statistics.

    One file holds a survey: its design, pictures and votes. docs/survey.md shows a complete
    example.
    """


@survey.command("create")
@click.argument("study_dir", metavar="STUDY_DIR", type=UserPath(path_type=Path))
@click.option(
    "--design",
    type=click.Choice(("pairwise", "rating", "forced-choice")),
    default="pairwise",
    show_default=True,
    help="pairwise: two pictures, with ties; rating: one picture, 1 to 5; forced-choice: the best of all.",
)
@click.option(
    "--questions",
    default="realism,alignment",
    show_default=True,
    metavar="NAMES",
    help="Known questions: realism, alignment, preference.",
)
@click.option("--question", "own", multiple=True, metavar="NAME=TEXT", help="Your own question. Repeatable.")
@click.option(
    "--items", type=int, help="Items per rater, without repeats and checks.  [default: 20, or all there are]"
)
@click.option("--raters", type=int, default=10, show_default=True, help="Number of raters to plan for.")
@click.option(
    "--repeats", type=click.IntRange(min=0), help="Number of items to ask twice.  [default: a tenth]"
)
@click.option(
    "--checks",
    type=click.IntRange(min=0),
    help="Number of attention checks.  [default: 3, or 1 with fewer than 10 items]",
)
@click.option("--overlap", type=int, default=3, show_default=True, help="Intended number of raters per item.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the design.")
@click.option(
    "--compare",
    default="schedule",
    show_default=True,
    metavar="COLUMN",
    help="Column whose values are the conditions.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Use only pictures with this value. Repeatable.",
)
@click.option("--title", default="Pictures and sentences", show_default=True, help="Title that raters see.")
@click.option(
    "--consent",
    type=UserPath(path_type=Path, dir_okay=False, exists=True),
    help="A text file with one paragraph per line, instead of the built-in consent.",
)
@click.option("--contact", default="", metavar="TEXT", help="Contact at the foot of every page.")
@click.option(
    "--exclude-failed-checks",
    type=click.IntRange(min=0),
    metavar="N",
    help="Exclude raters who fail more checks than this.  [default: a third of the checks]",
)
@click.option(
    "--exclude-faster",
    type=float,
    metavar="SECONDS",
    help="Exclude raters whose median time per screen is below this.  [default: 1]",
)
@click.option(
    "--min-answered",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exclude raters who answer less than this share of their screens.  [default: 0.5]",
)
@click.option(
    "--min-consistency",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exclude raters who answer less than this share of repeated questions consistently.  [default: 0]",
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

    STUDY_DIR is the directory of a study or comparison.
    The exclusion rules for raters are fixed here, before the first answer.
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
    "--root-path", default="", metavar="PATH", help="Path of the survey behind a proxy, such as /rate."
)
def serve_command(file: Path, host: str, port: int, root_path: str) -> None:
    """Serve the survey in FILE until Ctrl-C. Votes are on disk before they are confirmed.

    By default only this machine can reach the server. With another --host, raters need a link
    from "guidelens survey links".
    """
    from .store import SurveyFile

    _serve(SurveyFile(file), host, port, root_path)


@survey.command("preview")
@_FILE
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen on."
)
def preview_command(file: Path, port: int) -> None:
    """Try the survey in FILE as a rater would, on this machine. Nothing is stored in FILE.

    The server works on a copy, which is removed when you press Ctrl-C.
    """
    from .store import SurveyFile, copy_survey

    with tempfile.TemporaryDirectory(prefix="guidelens-preview-") as folder:
        copy = Path(folder) / "survey.db"
        copy_survey(file, copy)
        opened = SurveyFile(copy)
        opened.meta["title"] = f"Preview: {opened.meta['title']}"
        try:
            _serve(opened, "127.0.0.1", port, "", note="preview: answers are not stored")
        finally:
            opened.close()


def _serve(opened: SurveyFile, host: str, port: int, root_path: str, *, note: str = "") -> None:
    """Serve a survey until Ctrl-C, and print its open link."""
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
        console.echo_line("warning", "HTTP is not encrypted: use a proxy with TLS")

    def say(port: int) -> None:
        console.print_out(
            f"open link: http://{shown_host(host)}:{port}/{path}\n"
            f"press Ctrl-C to stop; {note or 'run the same command to continue'}"
        )

    serve(opened, host=host, port=port, root_path=root_path, on_listening=say)


@survey.command("links")
@_FILE
@click.option(
    "--url",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="Address at which raters reach the server.",
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
    help="Write results.html, figure.svg, figure.png, results.json and votes.csv to this directory.",
)
def results_command(file: Path, as_json: bool, out: Path | None) -> None:
    """Print the results of the survey in FILE. It may still be running."""
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
    from .wording import conclusion

    screen = console.out()
    screen.print(
        f"{found.title}: {plural(len(found.included), 'rater')} included, {plural(found.prompts, 'prompt')}",
        markup=False,
    )
    for rater in found.excluded:
        screen.print(f"excluded: rater {rater.rater}: {'; '.join(rater.excluded)}", markup=False)
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
        screen.print(conclusion(question, found.chance), markup=False)
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
    help="Format to write.",
)
@click.option(
    "--out", type=UserPath(path_type=Path), metavar="PATH", required=True,
    help="A directory (offline, label-studio, mturk), or a file (csv).",
)  # fmt: skip
@click.option("--url", default="", help="Address of the server that has the pictures, for mturk.")
def export_command(file: Path, form: str, out: Path, url: str) -> None:
    """Export pages for raters without a server, or the votes (csv)."""
    from .exchange import export
    from .store import SurveyFile

    if form == "mturk" and not url:
        raise UsageError("--format mturk needs --url URL: the address of the server that has the pictures")
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
    help="Format of the answers.",
)
def import_command(file: Path, answers: tuple[Path, ...], form: str) -> None:
    """Import returned answers into FILE. Importing a file twice changes nothing."""
    from .exchange import import_answers
    from .store import SurveyFile

    opened = SurveyFile(file)
    for path in answers:
        found = import_answers(opened, form, path)
        console.print_out(
            f"{path}: {plural(found.raters, 'rater')}, {plural(found.stored, 'vote')} stored, {found.known} were there"
        )
