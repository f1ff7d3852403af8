"""Read the results of a study or a comparison: a table of cells, their telemetry and pictures."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from guidelens.errors import GuidelensError, UsageError
from guidelens.files import write_file
from guidelens.guarding import one_line
from guidelens.pictures import open_picture, png_bytes
from guidelens.plugins.spelling import suggestion
from guidelens.runs.integrity import again, is_unchanged, read_unchanged, recorded_hash
from guidelens.runs.schema import MEMBER, explain, shortened
from guidelens.runs.store import COMPARISON, RESULTS, STUDY, read_config, read_failures, read_rows
from guidelens.runs.telemetry import Telemetry, load_batch, load_telemetry
from guidelens.sampling import split_steps
from guidelens.shown import data_frame, html_of, row_of
from guidelens.words import plural

from .expand import pair_id
from .export import encode, format_of
from .file import CELLS, recorded_study

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

logger = logging.getLogger(__name__)

CellRecord = dict[str, Any]
"""One row of the table; docs/studies.md describes its keys."""

DONE, FAILED, MISSING = "done", "failed", "missing"

MOST_SHOWN = 8
"""The largest number of pictures of a study that a notebook shows."""

_ROW = (
    "metrics",
    "metric_errors",
    "losses",
    "gradient_norms",
    "cosines",
    "conflicts",
    "nonfinite_steps",
    "seconds",
    "image",
)


class CellRecords(list[CellRecord]):
    """The rows of a study, in its order."""

    def where(self, **conditions: Any) -> CellRecords:
        """Return the rows whose columns have these values. A list, tuple or set matches any of its values.

        A guidance option that the study varies is a column like any other: ``where(through="x0")``.

        :raises UsageError: for a column that no row has.
        """
        known = dict.fromkeys(name for cell in self for name in (*cell, *cell["options"]))
        for name in conditions if known else ():
            if name not in known:
                raise UsageError(f"cells have no column {name!r}{suggestion(name, known)}")
        wanted = {
            name: value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
            for name, value in conditions.items()
        }
        return CellRecords(
            cell
            for cell in self
            if all({**cell["options"], **cell}.get(name) in values for name, values in wanted.items())
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return the flat table (see :func:`flat`) as a data frame.

        :raises GuidelensError: where pandas is not installed.
        """
        return data_frame(flat(cell) for cell in self)

    def encode(self, form: str) -> bytes:
        """Return the flat table as the content of a file.

        :param form: ``csv`` or ``parquet``.
        :raises GuidelensError: if pyarrow is not installed, which Parquet needs.
        """
        return encode([flat(cell) for cell in self], form)

    def save(self, path: str | Path) -> Path:
        """Write the flat table, and return the path.

        :param path: its ending, .csv or .parquet, chooses the format.
        :raises GuidelensError: for another ending, if pyarrow is not installed, or if the file cannot be written.
        """
        target = Path(path)
        write_file(target, self.encode(format_of(target)))
        return target

    def means(self) -> dict[str, str]:
        """Return the mean of each metric column over the finished cells, by schedule, as text."""
        values: dict[str, dict[str, list[float]]] = {}
        for cell in self:
            of = values.setdefault(cell["schedule"], {})
            for column, value in cell["metrics"].items():
                of.setdefault(column, []).append(value)
        return {
            schedule: ", ".join(f"{column} {fmean(found):.3g}" for column, found in columns.items())
            for schedule, columns in values.items()
            if columns
        }

    def _repr_html_(self) -> str:
        return html_of(None, plural(len(self), "cell"), self.means())


@dataclass(frozen=True)
class StudyResults:
    """A study's directory, loaded by :func:`load_study`. Files are read when their content is first used.

    :param config: ``config.json``: the study file, settings by id, schedules with their weights, metrics,
        versions.
    """

    directory: Path
    config: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the study, or ``comparison``."""
        return str(self.config["study"]["name"]) if self._is_study else COMPARISON

    @cached_property
    def cells(self) -> CellRecords:
        """Every requested cell with its result. A cell that several grids request appears once per grid."""
        rows, failures = self._rows, read_failures(self.directory)
        members = self._members() if self._is_study else self._of_comparison(rows)
        return CellRecords(_joined(member, rows, failures) for member in members)

    @cached_property
    def keys(self) -> dict[str, CellRecord]:
        """The cells by key. Of a cell in several grids, the first row."""
        found: dict[str, CellRecord] = {}
        for cell in self.cells:
            found.setdefault(cell["key"], cell)
        return found

    def settings(self, key: str) -> dict[str, Any]:
        """Return all resolved settings of a cell. Its key is a hash of these, the prompt and the schedule."""
        settings = self.config["settings"]
        return dict(settings[self._cell(key)["settings"]]) if self._is_study else dict(settings)

    def plugins(self) -> list[str]:
        """Return the requests that load the plugins of the run again."""
        requests = list(self.config["plugins"] or [])
        if self._is_study:
            recorded = recorded_study(self.directory)
            requests += recorded.plugin_requests
        return list(dict.fromkeys(requests))

    def row(self, key: str) -> dict[str, Any]:
        """Return the row of a cell in ``results.jsonl``.

        :raises GuidelensError: for a cell that is not done.
        """
        cell = self._cell(key)
        if key not in self._rows:
            raise GuidelensError(
                f"the cell {key} is {cell['status']}: {cell['reason'] or 'not computed yet'}"
            )
        return self._rows[key]

    def telemetry(self, key: str) -> Telemetry:
        """Return the telemetry of every step of a cell.

        :raises GuidelensError: for a cell that is not done, or damaged.
        """
        return load_telemetry(self.directory, self.row(key))

    def all_telemetry(self) -> dict[str, Telemetry]:
        """Return the telemetry of all finished cells by key. Cells whose file is missing or damaged are left out."""
        return self._batches[0]

    def image(self, key: str) -> Image:
        """Return the picture of a cell.

        :raises GuidelensError: for a cell that is not done, or damaged.
        """
        row = self.row(key)
        path = self.directory / row["image"]
        content = read_unchanged(path, recorded_hash(row, "image"))
        try:
            return open_picture(io.BytesIO(content))
        except Exception as error:  # a damaged picture can make the decoder raise anything
            raise GuidelensError(f"cannot read {path}: {one_line(error)}; {again(self.directory)}") from error

    def check_scores(self) -> None:
        """Refuse scores of one metric by different versions of its code.

        :raises GuidelensError: naming the versions, and the command that scores all pictures by the present one.
        """
        used = {metric["name"] for metric in self.config["metrics"]}
        counts: dict[str, dict[str, int]] = {}
        for row in self._rows.values():
            for name in used.intersection(row["scored"]):
                of = counts.setdefault(name, {})
                version = row.get("scorers", {}).get(name, "an unknown version")
                of[version] = of.get(version, 0) + 1
        for name, versions in counts.items():
            if len(versions) > 1:
                told = ", ".join(
                    f"{plural(count, 'picture')} by {version}" for version, count in versions.items()
                )
                raise GuidelensError(
                    f"the scores of metric {name} in {self.directory} are of different versions of its code ({told}); "
                    f"score all again: {self._command()}"
                )

    def _command(self) -> str:
        """Return the command that continues the run."""
        commands = self.config["commands"]
        if self._is_study or not commands:
            return f"guidelens study resume {self.directory}"
        return str(commands[-1])

    def damaged(self) -> list[str]:
        """Return the files of pictures and telemetry that are missing or not as they were written.

        Telemetry is kept for :meth:`all_telemetry`, so that each file is read once.
        """
        pictures = {row["image"]: recorded_hash(row, "image") for row in self._rows.values()}
        changed = [name for name, known in pictures.items() if not _as_written(self.directory / name, known)]
        return sorted([*changed, *self._batches[1]])

    def to_pandas(self) -> pd.DataFrame:
        """Return the flat table of all cells as a data frame.

        :raises GuidelensError: pandas is not installed.
        """
        return self.cells.to_pandas()

    def save(self, path: str | Path) -> Path:
        """Write the flat table of all cells; see :meth:`CellRecords.save`."""
        return self.cells.save(path)

    def _shown(self) -> list[CellRecord]:
        """Return the cells that a notebook shows: the first finished picture, and the same under other schedules."""
        done = [cell for cell in self.cells if cell["status"] == DONE]
        same = [
            cell for cell in done if all(cell[name] == done[0][name] for name in ("grid", "pair", "settings"))
        ]
        by_schedule = {
            cell["schedule"]: cell for cell in reversed(same) if cell["prompt"] == done[0]["prompt"]
        }
        return list(reversed(by_schedule.values()))[:MOST_SHOWN]

    def _repr_png_(self) -> bytes | None:
        cells = self._shown()
        return png_bytes(row_of([self.image(cell["key"]) for cell in cells])) if cells else None

    def _repr_html_(self) -> str:
        counts: dict[str, int] = {}
        for cell in self.keys.values():
            counts[cell["status"]] = counts.get(cell["status"], 0) + 1
        facts = {"directory": str(self.directory), **{name: str(count) for name, count in counts.items()}}
        if cells := self._shown():
            schedules = ", ".join(cell["schedule"] for cell in cells)
            facts["pictures"] = f"{cells[0]['prompt']}, seed {cells[0]['seed']}: {schedules}"
        return html_of(self._repr_png_(), self.name, {**facts, **self.cells.means()})

    @property
    def _is_study(self) -> bool:
        return self.config.get("kind") == STUDY

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        return read_rows(self.directory / RESULTS)[0]

    @cached_property
    def _batches(self) -> tuple[dict[str, Telemetry], list[str]]:
        """The telemetry of all cells in the order of the rows, and the files that cannot be read."""
        files = {row["telemetry"]: recorded_hash(row, "telemetry") for row in self._rows.values()}
        found: dict[str, Telemetry] = {}
        unreadable = []
        for name, known in files.items():
            try:
                found.update(load_batch(self.directory / name, known))
            except GuidelensError as error:
                logger.warning("%s", error)
                unreadable.append(name)
        return {key: found[key] for key in self._rows if key in found}, unreadable

    def _cell(self, key: str) -> CellRecord:
        if key not in self.keys:
            raise UsageError(f"{self.directory} has no cell {key!r}")
        return self.keys[key]

    def _members(self) -> list[dict[str, Any]]:
        """Return the rows of ``cells.jsonl``, which are of grids and settings of this study."""
        members = read_members(self.directory)
        grids = {grid["name"] for grid in self.config["grids"]}
        for i, member in enumerate(members, start=1):
            for name, known in (("grid", grids), ("settings", self.config["settings"])):
                if member[name] not in known:
                    what = f"config.json has no {name} {shortened(member[name])}"
                    raise _damaged(self.directory, f"line {i}: {what}")
        return members

    def _of_comparison(self, rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return a comparison's rows as members of one grid."""
        settings = self.config["settings"]
        forms = {(form["text"], form["reference"]): form for form in self.config["perturbed"]}
        return [
            {
                "grid": COMPARISON,
                "key": key,
                "settings": "",
                "pair": pair_id(row.get("reference") or row["prompt"], row["seed"]),
                **{
                    name: row[name]
                    for name in ("prompt", "category", "reference", "facts", "schedule", "seed")
                    if name in row
                },
                **_form(row, forms),
                **{name: row[name] for name in ("generator", "guidance", "steps", "sampler", "scale")},
                "eta": settings["eta"],
                "respacing": split_steps(settings["steps"])[1],
                "preset": "none",
                "options": {},
                "objective_scales": settings["objective_scales"],
                "notes": [n["note"] for n in self.config["notes"] if n["prompt"] == row["prompt"]],
            }
            for key, row in rows.items()
        ]


def _form(row: Mapping[str, Any], forms: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the perturbation columns of a comparison's row."""
    clean = {"perturbation": "none", "edits": 0, "clean": row["prompt"]}
    found = forms.get((row["prompt"], row["reference"]), clean)
    return {name: found[name] for name in clean}


def load_study(directory: str | Path) -> StudyResults:
    """Open the directory of a study or a comparison, finished or not.

    :raises UsageError: it holds neither.
    """
    directory = Path(directory)
    config = read_config(directory) if directory.is_dir() else None
    if config is None:
        raise UsageError(f"{directory} holds neither a study nor a comparison")
    return StudyResults(directory, config)


def read_members(directory: Path) -> list[dict[str, Any]]:
    """Return the rows of ``cells.jsonl``: the requested cells.

    :raises GuidelensError: when it is missing or damaged.
    """
    path = directory / CELLS
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise _damaged(directory, str(error.strerror)) from error
    members = []
    for i, line in enumerate(lines[:-1] if lines[-1] == b"" else lines, start=1):
        try:
            members.append(MEMBER.validate_json(line))
        except ValidationError as error:
            raise _damaged(directory, f"line {i}: {explain(error)}") from None
    return members


def _damaged(directory: Path, what: str) -> GuidelensError:
    return GuidelensError(
        f"cannot read {directory / CELLS}: {what}; guidelens study resume {directory} writes it"
    )


def _as_written(path: Path, sha256: str) -> bool:
    return is_unchanged(path, sha256) if sha256 else path.is_file()


def _joined(
    member: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, Mapping[str, Any]],
) -> CellRecord:
    row = rows.get(member["key"])
    if row is not None:
        found = {name: row.get(name) for name in _ROW}
        return {**member, "status": DONE, "reason": "", **found, "questions": row.get("questions", {})}
    failure = failures.get(member["key"])
    status = MISSING if failure is None else FAILED
    empty: dict[str, Any] = {name: {} for name in _ROW[:6]}
    reason = "" if failure is None else failure["reason"]
    rest: dict[str, Any] = {**dict.fromkeys(_ROW[6:]), "questions": {}}
    return {**member, "status": status, "reason": reason, **empty, **rest}


def flat(cell: CellRecord) -> dict[str, Any]:
    """Return a cell as one level of columns: ``metric.NAME``, ``loss.NAME``, ``gradient_norm.NAME``,
    ``cosine.A|B``, ``conflict.A|B``, ``objective_scale.NAME``, and guidance options that the study varies as
    ``option.NAME``.
    """
    tables = {
        "options": "option",
        "objective_scales": "objective_scale",
        "metrics": "metric",
        "losses": "loss",
        "gradient_norms": "gradient_norm",
        "cosines": "cosine",
        "conflicts": "conflict",
        "metric_errors": "metric_error",
    }
    nested = ("notes", "facts", "questions")
    row = {name: value for name, value in cell.items() if name not in tables and name not in nested}
    row["notes"] = "; ".join(cell["notes"])
    for name, prefix in tables.items():
        for what, value in (cell[name] or {}).items():
            row[f"{prefix}.{what}"] = value
    return row
