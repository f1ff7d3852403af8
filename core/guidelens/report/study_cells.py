"""Data of a study's cells for its page: scores, steps, settings, and the command that draws each again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guidelens.files import write_file
from guidelens.pictures import from_levels, png_bytes
from guidelens.runs.config import sampling_of
from guidelens.runs.telemetry import Telemetry

if TYPE_CHECKING:
    from pathlib import Path

    from guidelens.studies.results import StudyResults

STRIPS = "trajectories"
"""Folder with a strip of x0 predictions, an animation and saliency maps for each cell."""

POINTS = 60
"""Largest length of a series in the page. Longer ones are thinned."""

ANIMATION_SIDE = 128
"""Smallest side of an animation in pixels. A study has thousands of animations, so they are small."""

_SERIES = ("losses", "gradient_norms", "cosines")


def member_data(study: StudyResults) -> list[dict[str, Any]]:
    """Return an entry per finished row of the study's table, with grid, condition and cell. ``values`` are those of
    the grid's :func:`varied_columns` as text.
    """
    varied = varied_columns(study)
    return [
        {
            "grid": cell["grid"],
            "key": cell["key"],
            "prompt": cell["prompt"],
            "clean": cell["clean"],
            "category": cell["category"],
            "schedule": cell["schedule"],
            "seed": cell["seed"],
            "values": _values(cell, varied[cell["grid"]]),
            "changed": cell["prompt"] != cell["clean"],
        }
        for cell in study.cells
        if cell["status"] == "done"
    ]


def cell_data(study: StudyResults, telemetry: Mapping[str, Telemetry]) -> dict[str, dict[str, Any]]:
    """Return the details of each cell by key."""
    data = {}
    plugins = plugin_words(study)
    for key, cell in study.keys.items():
        if cell["status"] != "done":
            continue
        steps = telemetry.get(key)
        data[key] = {
            "image": cell["image"],
            "metrics": {name: round(value, 4) for name, value in cell["metrics"].items()},
            "errors": cell["metric_errors"],
            **({"questions": question_groups(cell["questions"])} if cell["questions"] else {}),
            "steps": {
                kind: {name: _series(values) for name, values in getattr(steps, kind).items()}
                for kind in _SERIES
            }
            if steps is not None
            else {},
            "frames": [] if steps is None or steps.snapshots is None else _ints(steps.snapshot_steps),
            **({"saliency": _peaks(steps)} if steps is not None and steps.saliency else {}),
            "nonfinite": cell["nonfinite_steps"],
            "settings": cell["settings"],
            "redraw": redraw_command(key),
            "command": cell_command(study.settings(key), cell, plugins),
            "notes": cell["notes"],
        }
    return data


def question_groups(questions: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the questions of a row as titled tables: a group for each metric and, within it, for what gave the scores.

    Each line has the text, the score with two decimals, and a mark for whether it holds.
    """
    groups: dict[tuple[str, str], list[list[str]]] = {}
    for metric, listed in questions.items():
        for question in listed:
            mark = {True: "holds", False: "does not hold", None: ""}[question.get("holds")]
            line = [question["text"], f"{question['score']:.2f}".replace("-", "\N{MINUS SIGN}"), mark]
            groups.setdefault((metric, question.get("by", "")), []).append(line)
    return [
        {"title": " by ".join(part for part in (metric, by) if part), "lines": lines}
        for (metric, by), lines in groups.items()
    ]


def varied_columns(study: StudyResults) -> dict[str, list[str]]:
    """Return, by grid, the columns that vary, besides prompt, schedule and seed."""
    columns = (
        "generator",
        "guidance",
        "preset",
        "sampler",
        "eta",
        "scale",
        "steps",
        "perturbation",
    )
    seen: dict[str, dict[str, set[str]]] = {}
    for cell in study.cells:
        values = {**{name: cell[name] for name in columns}, **cell["options"]}
        for name, value in values.items():
            seen.setdefault(cell["grid"], {}).setdefault(name, set()).add(str(value))
    return {grid: [name for name, values in names.items() if len(values) > 1] for grid, names in seen.items()}


def _values(cell: Mapping[str, Any], varied: Sequence[str]) -> list[str]:
    values = {**cell["options"], **cell}
    return [_spelled(name, values.get(name)) for name in varied]


def _spelled(name: str, value: Any) -> str:
    if name == "steps":
        return f"{value} steps"
    if name == "perturbation":
        return "clean" if value == "none" else str(value)
    if name in ("generator", "guidance", "sampler", "preset"):
        return str(value)
    return f"{name.replace('_', ' ')} {value}"


def plugin_words(study: StudyResults) -> list[str]:
    """Return the options that load the plugins of the study's run."""
    return request_words(study.plugins())


def request_words(requests: Iterable[str]) -> list[str]:
    """Return the options that load plugins, given the requests."""
    return [word for request in requests for word in ("-p", request)]


def redraw_command(key: str, directory: str = ".") -> str:
    """Return the command that computes a cell again bit for bit, for the folder of the page.

    :param directory: directory of the cell's run, relative to that folder.
    """
    return shlex.join(["guidelens", "redraw", directory, key])


def cell_command(settings: Mapping[str, Any], cell: Mapping[str, Any], plugins: Sequence[str] = ()) -> str:
    """Return the command that draws a cell alone, with other rounding because of the other batch.

    :param plugins: options before the command (:func:`plugin_words`).
    """
    prompt = cell["prompt"]
    last = ["--", prompt] if prompt.startswith("-") else []
    words = ["guidelens", *plugins, "generate", *([] if last else [prompt])]
    words += ["--schedule", cell["schedule"], "--seed", str(cell["seed"])]
    words += [word for kind in ("generator", "guidance") for word in (f"--{kind}", settings[kind]["name"])]
    words += [*sampling_of(settings).arguments(), "--out", f"{cell['key']}.png"]
    return shlex.join([*words, *last])


def write_strips(directory: Path, telemetry: Mapping[str, Telemetry]) -> None:
    """Write the stored x0 predictions of each cell as a strip ``trajectories/KEY.png``. Existing files are kept,
    because their name is the cell's key.
    """
    import numpy as np

    for key, steps in telemetry.items():
        path = directory / STRIPS / f"{key}.png"
        if steps.snapshots is None or path.exists():
            continue
        path.parent.mkdir(exist_ok=True)
        frames = np.concatenate(list(steps.snapshots), axis=1)
        write_file(path, png_bytes(from_levels(frames)))


def write_animations(directory: Path, telemetry: Mapping[str, Telemetry]) -> None:
    """Write the stored x0 predictions of each cell as an animation ``trajectories/KEY.webp`` if there are several.
    Existing files are kept.
    """
    from guidelens.report.trajectory import encode_trajectory

    for key, steps in telemetry.items():
        path = directory / STRIPS / f"{key}.webp"
        if steps.snapshots is None or len(steps.snapshots) < 2 or path.exists():
            continue
        path.parent.mkdir(exist_ok=True)
        frames = [from_levels(f) for f in steps.snapshots]
        write_file(path, encode_trajectory(frames, "WEBP", side=ANIMATION_SIDE, quick=True))


def _peaks(steps: Telemetry) -> dict[str, list[float | None]]:
    """Return the value of the brightest colour of each map: None for an inactive objective, -1 if not finite."""
    assert steps.snapshot_steps is not None  # maps are of the steps with snapshots
    peaks: dict[str, list[float | None]] = {}
    for name in steps.saliency:
        losses = steps.losses[name][steps.snapshot_steps].tolist()
        peaks[name] = [
            float(f"{peak:.3g}") if math.isfinite(peak) else None if math.isnan(loss) else -1.0
            for peak, loss in zip(steps.saliency_peaks[name].tolist(), losses, strict=True)
        ]
    return peaks


def _series(values: Any) -> list[float | None]:
    stride = max(1, math.ceil(len(values) / POINTS))
    return [float(f"{v:.4g}") if math.isfinite(v) else None for v in values.tolist()[::stride]]


def _ints(values: Any) -> list[int]:
    return [int(v) for v in values]
