"""Render index.html from the directories of one or several runs: pictures, scores and losses."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from guidelens.colours import palette, style_sheet
from guidelens.report.page_pictures import (
    FIRST_SEEDS,
    FieldRow,
    PromptView,
    field_row,
    prompt_hints,
    score_text,
    weight_charts,
)
from guidelens.report.page_tables import Tables, tables
from guidelens.runs.scoring import failures
from guidelens.runs.store import RESULTS, image_name, read_config, read_rows
from guidelens.runs.telemetry import step_series
from guidelens.sampling import options, split_steps
from guidelens.svg import short
from guidelens.words import plural

INLINE_BYTES = 8_000_000
"""Up to this total size, pictures are embedded in the page (each twice). Otherwise the page links to them."""

PIXELATED_SIDE = 128
"""Pictures up to this size are enlarged pixel by pixel. Larger ones are smoothed, because a page mostly reduces
them."""

ALWAYS_SHOWN = ("steps", "sampler", "scale")
"""Options that the list of settings always shows."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A run of the page."""

    label: str
    """Its value in a sweep, such as ``scale 0.3``; empty if the page has one run."""
    directory: Path
    place: str
    """The directory, relative to the folder of the page."""
    config: Mapping[str, Any]
    rows: list[Row]

    def address(self, row: Row) -> str:
        """Return the relative address of a picture."""
        name = image_name(row["key"])
        return name if self.place == "." else f"{self.place}/{name}"


@dataclass(frozen=True)
class PartView:
    """The tables and settings of a run for the page."""

    label: str
    tables: Tables
    settings: list[tuple[str, str]]
    commands: Sequence[str]


def render_page(directory: Path) -> str:
    """Return the page of the run in ``directory``. It is self-contained and makes no requests.

    :raises GuidelensError: the directory has no readable run.
    """
    return _render([_read_part("", directory, ".")])


def render_sweep(runs: Mapping[str, Path], directory: Path) -> str:
    """Return the page of several runs that differ in a setting, for ``directory``.

    :param runs: directories inside ``directory``, by name (``scale 0.3``).
    :raises GuidelensError: one of them has no readable run.
    """
    parts = [_read_part(label, run, run.relative_to(directory).as_posix()) for label, run in runs.items()]
    return _render(parts)


def _read_part(label: str, directory: Path, place: str) -> Part:
    config = read_config(directory) or {}
    stored, _ = read_rows(directory / RESULTS)
    order = {schedule["name"]: i for i, schedule in enumerate(config["schedules"])}
    rows: list[Row] = [{**row, **step_series(directory, row)} for row in stored.values()]
    rows.sort(key=lambda row: (order[row["schedule"]], row["seed"]))
    return Part(label, directory, place, config, rows)


def _render(parts: Sequence[Part]) -> str:
    config = parts[0].config
    names = [schedule["name"] for schedule in config["schedules"]]
    everything = [row for part in parts for row in part.rows]
    weighed = {name for schedule in config["schedules"] for name in schedule["weights"]}
    objectives = sorted(weighed | {name for row in everything for name in row["losses"]})
    colours = palette([*names, *objectives])
    prompts = _prompt_views(parts, colours)
    counts = [split_steps(part.config["settings"]["steps"]) for part in parts]
    longest = parts[max(range(len(parts)), key=lambda i: counts[i][0])]
    template = page_environment().get_template("page.html.j2")
    return template.render(
        config=config,
        title=f"{plural(len(names), 'schedule')} on {plural(len(prompts), 'prompt')}",
        swept=[part.label for part in parts if part.label],
        fine=is_fine(config["settings"]),
        steps=counts[0] if len(set(counts)) == 1 else None,
        most_steps=max(count for count, _ in counts),
        prompts=prompts,
        schedules=names,
        objectives=objectives,
        weights=weight_charts(longest.config, colours),
        parts=[
            PartView(
                part.label,
                tables(part.rows, names, part.config["metrics"], colours),
                list(_settings(part.config)),
                part.config["commands"],
            )
            for part in parts
        ],
        failures=failures(everything),
        nonfinite=sum(row["nonfinite_steps"] for row in everything),
        total=len(everything),
        colours=colours,
        first_seeds=FIRST_SEEDS,
    )


def _prompt_views(parts: Sequence[Part], colours: Mapping[str, int]) -> list[PromptView]:
    """Return the prompts of all parts in order, each with a row of pictures per part."""
    sources = _picture_sources(parts)
    prompts = {(p["text"], p["reference"]): p for part in parts for p in part.config["prompts"]}
    views = []
    for i, prompt in enumerate(prompts.values()):
        rows: list[FieldRow] = []
        for part in parts:
            source = sources[part.label]
            rows.append(field_row(part.label, prompt, part.rows, part.config, colours, source, part.place))
        rows = [row for row in rows if row.columns]
        if rows:
            hints = prompt_hints(prompt, parts[0].config)
            views.append(PromptView(i, prompt["text"], prompt["category"], prompt["reference"], rows, hints))
    return views


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


def is_fine(settings: Mapping[str, Any]) -> bool:
    """Return whether pictures of these settings are too large to show them pixel by pixel."""
    return max(settings["image_shape"][1:]) > PIXELATED_SIDE


def signed_text(value: float) -> str:
    """Return a difference with sign and two decimals. A value that rounds to 0 has no sign."""
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _picture_sources(parts: Sequence[Part]) -> dict[str, Callable[[Row], str]]:
    """Return the addresses of each part's pictures by label: as data if all are small, else as files."""
    files = [part.directory / image_name(row["key"]) for part in parts for row in part.rows]
    if 2 * sum(file.stat().st_size for file in files) * 4 / 3 > INLINE_BYTES:
        return {part.label: part.address for part in parts}
    return {part.label: _inline(part.directory) for part in parts}


def _inline(directory: Path) -> Callable[[Row], str]:
    return lambda row: (
        "data:image/png;base64,"
        + base64.b64encode((directory / image_name(row["key"])).read_bytes()).decode("ascii")
    )


def _settings(config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield the settings of a run that differ from their defaults, and its models and versions."""
    defaults = {each.name: each.default for each in options() if each.name not in ALWAYS_SHOWN}
    for name, value in config["settings"].items():
        if name in defaults and value == defaults[name]:
            continue
        shown = name.replace("_", " ")
        if isinstance(value, Mapping) and set(value) == {"name", "fingerprint"}:
            yield name, value["name"]
            yield f"{name} fingerprint", value["fingerprint"]
        elif isinstance(value, Mapping):
            yield shown, ", ".join(f"{k} {v:g}" for k, v in value.items()) or "none"
        elif isinstance(value, list):
            yield shown, " × ".join(str(v) for v in value)
        else:
            yield shown, f"{value:g}" if isinstance(value, float) else str(value)
    seeds = config["seeds"]
    more = f" … ({len(seeds)})" if len(seeds) > 12 else ""
    yield "seeds", ", ".join(str(s) for s in seeds[:12]) + more
    yield "device", config["device"]
