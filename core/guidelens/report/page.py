"""index.html: the pictures of a run with their scores and losses, made from the run's directory alone."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from guidelens.colours import NEUTRAL, palette, style_sheet
from guidelens.report.charts import Line, interval_mark, line_chart, value_range
from guidelens.report.study_cells import cell_command, redraw_command, request_words
from guidelens.runs.scoring import failures
from guidelens.runs.store import RESULTS, image_name, read_config, read_rows
from guidelens.runs.telemetry import step_series
from guidelens.sampling import options, split_steps
from guidelens.stats import Estimate, paired_differences, summarise
from guidelens.svg import short
from guidelens.words import plural

INLINE_BYTES = 8_000_000
"""Pictures are part of the page up to this size in all (each is there twice); beyond, the page links to
them.
"""

PIXELATED_SIDE = 128
"""Pictures up to this size are enlarged pixel by pixel; larger ones, which a page mostly reduces, are smoothed."""

ALWAYS_SHOWN = ("steps", "sampler", "scale")
"""Options that the list of settings names even at their default."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Chart:
    """A drawn chart and its heading."""

    title: str
    svg: Markup
    colour: int


@dataclass(frozen=True)
class CellView:
    """One picture as the page shows it."""

    row: Row
    source: str
    scores: list[tuple[str, str]]
    charts: list[tuple[str, list[Chart]]]
    """Groups of charts for the details: losses, gradient norms, cosines."""
    redraw: str
    """The command that draws it again bit for bit; empty where a model was given as an object."""
    command: str
    """The command that draws it alone; likewise."""


@dataclass(frozen=True)
class ColumnView:
    """One schedule's pictures for one prompt."""

    schedule: str
    number: int
    mean: str
    cells: list[CellView]
    charts: list[Chart]


@dataclass(frozen=True)
class PromptView:
    """One prompt's pictures."""

    number: int
    text: str
    category: str
    reference: str | None
    columns: list[ColumnView]
    hints: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SummaryRow:
    """One schedule's line of the table."""

    schedule: str
    number: int
    estimates: list[tuple[Estimate, Markup]]
    differences: list[Estimate | None]


def render_page(directory: Path) -> str:
    """Return the page of the run in ``directory``: self-contained, without scripts from elsewhere or any
    request.

    :raises GuidelensError: when the directory holds no run that can be read.
    """
    config = read_config(directory) or {}
    stored, _ = read_rows(directory / RESULTS)
    names = [schedule["name"] for schedule in config["schedules"]]
    place = {name: i for i, name in enumerate(names)}
    rows: list[Row] = [{**row, **step_series(directory, row)} for row in stored.values()]
    rows.sort(key=lambda row: (place[row["schedule"]], row["seed"]))
    colours = _colours(rows, names)
    sources = _picture_sources(directory, rows)
    prompts = [_prompt_view(i, p, rows, config, colours, sources) for i, p in enumerate(config["prompts"])]
    columns, summary = _summary(rows, names)
    template = page_environment().get_template("page.html.j2")
    return template.render(
        config=config,
        fine=is_fine(config["settings"]),
        **dict(zip(("steps", "respaced"), split_steps(config["settings"]["steps"]), strict=True)),
        settings=list(_settings(config)),
        prompts=[prompt for prompt in prompts if prompt.columns],
        schedules=names,
        weights=_weight_charts(config, colours),
        columns=columns,
        summary=summary,
        equal_n=len({(e.n, e.clusters) for line in summary for e, _ in line.estimates}) == 1,
        failures=failures(rows),
        nonfinite=sum(row["nonfinite_steps"] for row in rows),
        total=len(rows),
        colours=colours,
    )


def page_environment() -> Any:
    """Return the templates of this package, with the filters that all pages use."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("guidelens.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["plural"] = plural
    environment.globals["colour_rules"] = Markup(style_sheet())
    environment.filters["short"] = short
    environment.filters["score"] = score_text
    environment.filters["signed"] = signed_text
    return environment


def score_text(value: float) -> str:
    """Write a score: two decimals, or a dash for none."""
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def is_fine(settings: Mapping[str, Any]) -> bool:
    """Whether pictures of these settings are too large to be shown pixel by pixel."""
    return max(settings["image_shape"][1:]) > PIXELATED_SIDE


def signed_text(value: float) -> str:
    """Write a difference: its sign and two decimals; what rounds to nothing has none."""
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def again(config: Mapping[str, Any], row: Row) -> tuple[str, str]:
    """Return the commands that draw one picture again and alone; empty where a model was given as an object."""
    if config["plugins"] is None:
        return "", ""
    return redraw_command(row["key"]), cell_command(config["settings"], row, request_words(config["plugins"]))


def _prompt_view(
    number: int,
    prompt: Mapping[str, Any],
    rows: Sequence[Row],
    config: Mapping[str, Any],
    colours: Mapping[str, int],
    sources: Callable[[Row], str],
) -> PromptView:
    mine = [row for row in rows if (row["prompt"], row["reference"]) == (prompt["text"], prompt["reference"])]
    ranges = {name: value_range([r["losses"][name] for r in mine if name in r["losses"]]) for name in colours}
    columns = []
    for i, schedule in enumerate(s["name"] for s in config["schedules"]):
        cells = [row for row in mine if row["schedule"] == schedule]
        if not cells:
            continue
        views = [
            CellView(r, sources(r), _scores(r), _cell_charts(r, colours), *again(config, r)) for r in cells
        ]
        columns.append(
            ColumnView(schedule, i, _first_mean(cells), views, _column_charts(cells, colours, ranges))
        )
    hints = _hints(prompt, config)
    return PromptView(number, prompt["text"], prompt["category"], prompt["reference"], columns, hints)


def _hints(prompt: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Return how a prompt was perturbed, and what the text encoder has to say of it."""
    text, reference = prompt["text"], prompt["reference"]
    forms = [f for f in config["perturbed"] if (f["text"], f["reference"]) == (text, reference)]
    told = [note["note"] for note in config["notes"] if note["prompt"] == text]
    return [*(f"{form['perturbation']}, edit distance {form['edits']}" for form in forms), *told]


def _first_mean(rows: Sequence[Row]) -> str:
    column = next((name for row in rows for name in row["metrics"]), None)
    if column is None:
        return ""
    values = [row["metrics"][column] for row in rows if column in row["metrics"]]
    return f"{column} {score_text(math.fsum(values) / len(values))}"


def _scores(row: Row) -> list[tuple[str, str]]:
    return [(name, score_text(value)) for name, value in row["metrics"].items()]


def _column_charts(
    rows: Sequence[Row], colours: Mapping[str, int], ranges: Mapping[str, tuple[float, float]]
) -> list[Chart]:
    """Draw each objective's loss, one line a seed, on an axis shared by all schedules of the prompt."""
    charts = []
    for name, colour in colours.items():
        lines = [Line(row["losses"][name], colour) for row in rows if name in row["losses"]]
        if lines:
            label = f"{name} loss over steps, {rows[0]['schedule']}, {len(lines)} seeds{_ends(lines)}"
            charts.append(Chart(f"{name} loss", line_chart(lines, label, ranges[name]), colour))
    return charts


def _cell_charts(row: Row, colours: Mapping[str, int]) -> list[tuple[str, list[Chart]]]:
    groups = []
    for title, noun in (("losses", "loss"), ("gradient_norms", "gradient norm")):
        charts = [
            Chart(f"{name} {noun}", line_chart([line], f"{name} {noun} over steps{_ends([line])}"), colour)
            for name, colour in colours.items()
            if name in row[title]
            for line in [Line(row[title][name], colour)]
        ]
        groups.append((title.replace("_", " "), charts))
    cosines = [
        Chart(
            f"{title} cosine",
            line_chart([line], f"cosine of {title} over steps{_ends([line])}", (-1.0, 1.0)),
            NEUTRAL,
        )
        for title, values in ((pair.replace("|", ", "), values) for pair, values in row["cosines"].items())
        for line in [Line(values, NEUTRAL)]
    ]
    return [(title, charts) for title, charts in (*groups, ("gradient cosines", cosines)) if charts]


def _ends(lines: Sequence[Line]) -> str:
    firsts = [next(v for v in line.values if v is not None) for line in lines]
    lasts = [next(v for v in reversed(line.values) if v is not None) for line in lines]
    return f": from {short(math.fsum(firsts) / len(firsts))} to {short(math.fsum(lasts) / len(lasts))}"


def _summary(rows: Sequence[Row], names: Sequence[str]) -> tuple[list[str], list[SummaryRow]]:
    """Estimate every schedule's columns, and the paired difference of each to the first schedule."""
    estimates = summarise(rows)
    present = [name for name in names if name in estimates]
    columns = list(estimates[present[0]]) if present else []
    bounds = {column: _bounds([estimates[name][column] for name in present]) for column in columns}
    differences = {column: paired_differences(rows, column, present[0]) for column in columns}
    lines = [
        SummaryRow(
            name,
            names.index(name),
            [(estimates[name][c], interval_mark(estimates[name][c], bounds[c])) for c in columns],
            [differences[c].get(name) for c in columns],
        )
        for name in present
    ]
    return columns, lines


def _bounds(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Return [0, 1] where all of a column lies in it, else the column's own range."""
    values = [v for e in estimates for v in (e.mean, e.low, e.high) if math.isfinite(v)]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    return (0.0, 1.0) if low >= 0 and high <= 1 else value_range([[low, high]])


def _weight_charts(config: Mapping[str, Any], colours: Mapping[str, int]) -> dict[str, Markup]:
    charts = {}
    for schedule in config["schedules"]:
        weights = schedule["weights"]
        lines = [Line(weights[name], colours[name]) for name in colours if name in weights]
        top = max((w for line in lines for w in line.values if w is not None), default=1.0)
        bottom = min((w for line in lines for w in line.values if w is not None), default=0.0)
        label = f"weights of {', '.join(weights) or 'no objective'} over steps in {schedule['name']}"
        charts[schedule["name"]] = line_chart(lines, label, (min(0.0, bottom), max(1.0, top)))
    return charts


def _colours(rows: Sequence[Row], schedules: Sequence[str]) -> dict[str, int]:
    """Return the numbers of the objectives' colours, in alphabetical order, beside which schedules have theirs."""
    names = sorted({name for row in rows for name in row["losses"]})
    numbers = palette([*names, *schedules])
    return {name: numbers[name] for name in names}


def _picture_sources(directory: Path, rows: Sequence[Row]) -> Callable[[Row], str]:
    sizes = [(directory / image_name(row["key"])).stat().st_size for row in rows]
    if 2 * sum(sizes) * 4 / 3 > INLINE_BYTES:
        return lambda row: image_name(row["key"])
    return lambda row: (
        "data:image/png;base64,"
        + base64.b64encode((directory / image_name(row["key"])).read_bytes()).decode("ascii")
    )


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = []
    defaults = {each.name: each.default for each in options() if each.name not in ALWAYS_SHOWN}
    for name, value in config["settings"].items():
        if name in defaults and value == defaults[name]:
            continue
        if isinstance(value, Mapping) and set(value) == {"name", "fingerprint"}:
            shown += [(name, value["name"]), (f"{name} fingerprint", value["fingerprint"])]
        elif isinstance(value, Mapping):
            shown.append(
                (name.replace("_", " "), ", ".join(f"{k} {v:g}" for k, v in value.items()) or "none")
            )
        elif isinstance(value, list):
            shown.append((name.replace("_", " "), " × ".join(str(v) for v in value)))
        else:
            shown.append((name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value)))
    seeds = config["seeds"]
    shown.append(
        ("seeds", ", ".join(str(s) for s in seeds[:12]) + (f" … ({len(seeds)})" if len(seeds) > 12 else ""))
    )
    return [*shown, ("device", config["device"])]
