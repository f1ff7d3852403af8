"""Surveys without the server: offline pages, Label Studio and MTurk files out, answers in, and the files of results."""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from guidelens.errors import GuidelensError, UsageError
from guidelens.files import write_file
from guidelens.text import decode, without_formula

from . import wording
from .design import CHECK
from .drawing import figure, figure_png
from .figure import environment, page
from .statistics import Interval, SurveyResults
from .store import StoredItem, SurveyFile

OFFLINE, LABEL_STUDIO, MTURK, CSV = "offline", "label-studio", "mturk", "csv"
IMPORTED = (OFFLINE, LABEL_STUDIO, MTURK)
"""Formats of answers."""
MAX_ANSWERS = 100_000_000
"""Largest size of a file of answers, in bytes."""


@dataclass(frozen=True)
class Imported:
    """The result of an import."""

    raters: int
    stored: int
    known: int


def export(survey: SurveyFile, form: str, out: Path, *, url: str = "") -> list[Path]:
    """Write a survey in a format and return the files.

    - ``offline``: a self-contained page per planned rater, which saves a file of answers at the end.
    - ``label-studio``: ``tasks.json`` with the pictures inside, and ``labeling.xml``.
    - ``mturk``: ``input.csv`` and ``layout.html``, with pictures from the server at ``url``.
    - ``csv``: the raw votes, in the file ``out``.

    Only ``csv`` contains names of conditions.
    """
    if form == CSV:
        return _write({out: votes_csv(survey)})
    if form == OFFLINE:
        return _write({out / name: text for name, text in _offline(survey)})
    if form == LABEL_STUDIO:
        tasks = [_task(survey, item) for item in survey.items()]
        text = json.dumps(tasks, indent=1, ensure_ascii=False)
        return _write({out / "tasks.json": text, out / "labeling.xml": _labeling(survey)})
    if form == MTURK:
        return _write(
            {out / "input.csv": _mturk_input(survey, url), out / "layout.html": _mturk_layout(survey)}
        )
    raise UsageError(f"unknown format {form!r}; there are {OFFLINE}, {LABEL_STUDIO}, {MTURK} and {CSV}")


def import_answers(survey: SurveyFile, form: str, path: Path) -> Imported:
    """Read a file of answers. Answers that are already stored do not change.

    Raters of other platforms get a number. Their names on the platform are not stored.

    :raises UsageError: the file is of another survey or format, or an item does not have an answer. Nothing of the
        file is stored then.
    """
    try:
        if not path.is_file():
            raise UsageError(f"cannot read {path}: there is no such file")
        if path.stat().st_size > MAX_ANSWERS:
            raise UsageError(f"{path} is larger than {MAX_ANSWERS // 10**6} MB: not a file of answers")
        text = decode(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    if form not in IMPORTED:
        raise UsageError(f"unknown format {form!r}; there are {', '.join(IMPORTED)}")
    try:
        from .answers import read_answers
    except ModuleNotFoundError as error:
        raise GuidelensError(f'reading answers needs {error.name}: pip install "guidelens[survey]"') from None
    try:
        given = read_answers(survey, form, text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}; nothing of the file was stored") from error
    names = {one.rater: one.rater if form == OFFLINE else _visit(survey, form, one.rater) for one in given}
    rows = [(names[one.rater], one.item, one.answers, one.seconds) for one in given]
    stored = survey.take(form, rows)
    return Imported(len(names), stored, len(given) * len(survey.questions) - stored)


def write_results(survey: SurveyFile, results: SurveyResults, out: Path) -> list[Path]:
    """Write ``results.html``, ``figure.svg`` and ``.png``, ``results.json`` and ``votes.csv``; return their paths."""
    return _write(
        {
            out / "results.html": page(results),
            out / "figure.svg": str(figure(results)),
            out / "figure.png": figure_png(results),
            out / "results.json": _json(results),
            out / "votes.csv": votes_csv(survey),
        }
    )


def save_results(results: SurveyResults, path: Path) -> Path:
    """Write one of the files of :func:`write_results`, chosen by the ending of ``path``, and return the path.

    :raises GuidelensError: for another ending, or if the file cannot be written.
    """
    writers: dict[str, Callable[[SurveyResults], str | bytes]] = {
        ".html": page,
        ".svg": lambda found: str(figure(found)),
        ".png": figure_png,
        ".json": _json,
    }
    if path.suffix.lower() not in writers:
        raise GuidelensError(f"{path}: the file name must end in {', '.join(writers)}")
    _write({path: writers[path.suffix.lower()](results)})
    return path


def result_rows(results: SurveyResults) -> Iterator[dict[str, Any]]:
    """Yield a row per question and condition. Ratings have no scores: nan."""
    none = Interval(math.nan, math.nan, math.nan)
    for question in results.questions:
        for condition, mean in question.means.items():
            score = none if question.scores is None else question.scores[condition]
            yield {
                "question": question.name,
                "condition": condition,
                "answers": question.n,
                **asdict(mean),
                **{f"score_{name}": value for name, value in asdict(score).items()},
                "alpha": question.alpha,
            }


def _json(results: SurveyResults) -> str:
    return json.dumps(results.as_dict(), indent=1, ensure_ascii=False) + "\n"


VOTE_COLUMNS = (
    "rater", "source", "item", "kind", "prompt", "seed", "question", "answer", "chosen", "shown", "expected",
    "seconds", "at", "revised",
)  # fmt: skip


def votes_csv(survey: SurveyFile) -> str:
    """Return the raw votes of all raters, including excluded ones, one per line.

    ``shown`` has the conditions by place, joined by ``|``. ``chosen`` is the chosen condition, or ``tie``, or empty
    for a rating, whose value is ``answer``. Text that a spreadsheet would read as a formula starts with an apostrophe.
    """
    items = {item.id: item for item in survey.items()}
    sources = {rater.id: rater.source for rater in survey.raters()}
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, VOTE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for vote in survey.votes():
        item = items[vote["item"]]
        choice = (
            "" if survey.kind == "rating" else item.shown[vote["answer"] - 1] if vote["answer"] else "tie"
        )
        about = {
            "source": sources[vote["rater"]],
            "kind": item.kind,
            "prompt": item.prompt,
            "seed": item.seed,
            "chosen": choice,
            "shown": "|".join(item.shown),
            "expected": item.expected,
        }
        row = {**vote, **about, "at": f"{vote['at']:.3f}", "seconds": _seconds(vote["seconds"])}
        writer.writerow({name: without_formula(value) for name, value in row.items()})
    return buffer.getvalue()


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _write(files: Mapping[Path, str | bytes]) -> list[Path]:
    for path, content in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {path.parent}: {error.strerror}") from error
        write_file(path, content if isinstance(content, bytes) else content.encode())
    return list(files)


def _visit(survey: SurveyFile, form: str, name: str) -> str:
    """Return the keyed hash that is stored instead of a platform's name for a rater."""
    key = bytes.fromhex(survey.meta["secret"])
    return hmac.new(key, f"{form}\n{name}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _sentence(survey: SurveyFile, item: StoredItem) -> str:
    if item.kind == CHECK:
        return wording.instruction(survey.kind, item.expected or 0, len(item.shown))
    return item.prompt


def _data_uri(survey: SurveyFile, token: str) -> str:
    return "data:image/png;base64," + base64.b64encode(survey.image(token) or b"").decode("ascii")


def _offline(survey: SurveyFile) -> Iterator[tuple[str, str]]:
    folder = resources.files("guidelens_survey").joinpath("templates")
    template = environment().get_template("offline.html.j2")
    sizes = survey.images()
    raters = [rater for rater in survey.raters() if rater.source == "personal"]
    for number, rater in enumerate(raters, 1):
        items = survey.items(rater.seat)
        tokens = list(dict.fromkeys(token for item in items for token in item.tokens))
        content = {
            "survey": survey.meta["id"],
            "code": rater.code,
            "completion": rater.completion,
            "kind": survey.kind,
            "questions": [question.as_dict() for question in survey.questions],
            "pictures": [_data_uri(survey, token) for token in tokens],
            "small": [sizes[token]["width"] < 160 for token in tokens],
            "items": [
                {
                    "id": item.id,
                    "sentence": _sentence(survey, item),
                    "quoted": item.kind != CHECK,
                    "pictures": [tokens.index(token) for token in item.tokens],
                    "names": [wording.place_name(survey.kind, i + 1) for i in range(len(item.tokens))],
                    "choices": wording.choices(survey.kind, len(item.shown)),
                }
                for item in items
            ],
        }
        text = template.render(
            title=survey.meta["title"],
            contact=survey.meta["contact"],
            paragraphs=[line for line in survey.meta["consent"].splitlines() if line.strip()],
            count=len(items),
            minutes=wording.minutes(len(items), len(survey.questions)),
            kind=survey.kind,
            questions=survey.questions,
            content=content,
            css=folder.joinpath("survey.css").read_text(encoding="utf-8"),
            js=folder.joinpath("offline.js").read_text(encoding="utf-8"),
        )
        yield f"rater-{number:02d}.html", text


def _task(survey: SurveyFile, item: StoredItem) -> dict[str, Any]:
    pictures = {f"picture{i}": _data_uri(survey, token) for i, token in enumerate(item.tokens, 1)}
    data = {"survey": survey.meta["id"], "item": item.id, "sentence": _sentence(survey, item), **pictures}
    return {"data": data}


def _labeling(survey: SurveyFile) -> str:
    places = len(survey.items()[0].shown)
    pictures = "".join(
        f'    <View><Header value={quoteattr(wording.place_name(survey.kind, i))} size="5"/>'
        f'<Image name="picture{i}" value="$picture{i}"/></View>\n'
        for i in range(1, places + 1)
    )
    asked = "".join(
        f'  <Header value={quoteattr(question.text)} size="4"/>\n'
        f'  <Choices name={quoteattr(question.name)} toName="sentence" choice="single-radio" required="true" '
        'showInline="true">\n'
        + "".join(
            f"    <Choice value={quoteattr(label)}/>\n" for _, label in wording.choices(survey.kind, places)
        )
        + "  </Choices>\n"
        for question in survey.questions
    )
    style = 'style="display: grid; grid-auto-flow: column; gap: 1em"'
    head = '<View>\n  <Text name="sentence" value="$sentence"/>\n'
    return f"{head}  <View {style}>\n{pictures}  </View>\n{asked}</View>\n"


def _mturk_input(survey: SurveyFile, url: str) -> str:
    items, base = survey.items(), url.rstrip("/")
    buffer = io.StringIO()
    pictures = [f"picture_{i + 1}" for i in range(len(items[0].tokens))]
    writer = csv.writer(buffer)
    writer.writerow(["survey", "item", "sentence", *pictures])
    for item in items:
        addresses = [f"{base}/i/{token}" for token in item.tokens]
        writer.writerow([survey.meta["id"], item.id, _sentence(survey, item), *addresses])
    return buffer.getvalue()


def _mturk_layout(survey: SurveyFile) -> str:
    places = len(survey.items()[0].shown)
    return str(
        environment()
        .get_template("mturk.html.j2")
        .render(
            pictures=[
                (f"${{picture_{i}}}", wording.place_name(survey.kind, i)) for i in range(1, places + 1)
            ],
            questions=survey.questions,
            choices=wording.choices(survey.kind, places),
            sentence="${sentence}",
        )
    )
