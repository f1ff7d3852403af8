"""An animation for talks, which shows schedules side by side, step by step: a row per prompt, a column per schedule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guidelens.colours import colour
from guidelens.errors import UsageError
from guidelens.files import explained, replacing

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from guidelens.studies.results import CellRecord, StudyResults

    Row = dict[str, np.ndarray]

_SIDE, _GAP, _LABEL = 192, 8, 26
_MILLISECONDS, _LAST = 350, 1800


def animate(
    study: StudyResults,
    path: Path,
    *,
    prompts: Sequence[str] = (),
    schedules: Sequence[str] = (),
    rows: int = 4,
    seed: int | None = None,
) -> None:
    """Write an animation of the predicted x0 of each schedule. The pictures of a row start from the same noise.

    The last frame is shown longer.

    :param path: the file to write, with the suffix ``.webp`` or ``.gif``.
    :param prompts: the prompts to show; empty: the first ``rows``.
    :param schedules: the schedules to show; empty: all.
    :param seed: the seed of the pictures; None: the smallest.
    :raises UsageError: if the study kept no snapshots of such pictures.
    :raises GuidelensError: if a file cannot be read or written.
    """
    cells = [cell for cell in study.cells if cell["status"] == "done" and cell["perturbation"] == "none"]
    cells = [cell for cell in cells if not schedules or cell["schedule"] in schedules]
    cells = [cell for cell in cells if seed in (None, cell["seed"])]
    wanted = list(prompts) or list(dict.fromkeys(cell["prompt"] for cell in cells))
    strips: dict[str, Row] = {}
    for prompt in wanted:
        row = _snapshots(study, _one_each([cell for cell in cells if cell["prompt"] == prompt]))
        if row and len(strips) < (len(prompts) or rows):
            strips[prompt] = row
    if not strips:
        raise UsageError(
            f"{study.directory} kept no steps to animate: run a study with `snapshots = 12`, or use "
            "`guidelens generate --trajectory`"
        )
    names = list(dict.fromkeys(name for row in strips.values() for name in row))
    count = max(len(snapshots) for row in strips.values() for snapshots in row.values())
    _write([_frame(strips, names, i) for i in range(count)], path)


def _one_each(cells: Sequence[CellRecord]) -> list[CellRecord]:
    """Return one cell per schedule, all with one seed, scale and number of steps: those with the most schedules."""
    groups: dict[tuple[int, int, float], dict[str, CellRecord]] = {}
    for cell in cells:
        place = (cell["seed"], cell["steps"], cell["scale"])
        groups.setdefault(place, {}).setdefault(cell["schedule"], cell)
    if not groups:
        raise UsageError("no finished picture has this prompt, seed and schedule")
    return list(max(groups.values(), key=len).values())


def _snapshots(study: StudyResults, cells: Sequence[CellRecord]) -> Row:
    """Return the kept predictions by schedule, each (S, H, W, C); without the cells that kept none."""
    found = {cell["schedule"]: study.telemetry(cell["key"]).snapshots for cell in cells}
    return {name: kept for name, kept in found.items() if kept is not None}


def _frame(strips: dict[str, Row], names: Sequence[str], number: int) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    from guidelens.pictures import from_levels
    from guidelens.report.grid import fit

    lefts = {name: _GAP + place * (_SIDE + _GAP) for place, name in enumerate(names)}
    height = _LABEL + _SIDE + 2 * _GAP
    sheet = Image.new("RGB", (len(names) * (_SIDE + _GAP) + _GAP, _LABEL + len(strips) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for name, left in lefts.items():
        draw.text((left, 5), name, fill=colour(name).light, font=font, stroke_width=0.4)
    for line, (prompt, row) in enumerate(strips.items()):
        top = _LABEL + _GAP + line * height
        draw.text((_GAP, top + 2), prompt, fill="black", font=font)
        for name, snapshots in row.items():
            picture = from_levels(snapshots[min(number, len(snapshots) - 1)])
            sheet.paste(fit(picture, _SIDE), (lefts[name], top + _LABEL))
    return sheet


def _write(frames: Sequence[Image], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with explained(f"cannot write {path}"), replacing(path) as temporary:
        frames[0].save(
            temporary,
            format=path.suffix.lstrip(".").upper(),
            save_all=True,
            append_images=frames[1:],
            duration=[_MILLISECONDS] * (len(frames) - 1) + [_LAST],
            loop=0,
            **({"lossless": True} if path.suffix.lower() == ".webp" else {}),
        )
