"""An animation for talks, which shows the schedules of one prompt side by side, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guidelens.errors import UsageError
from guidelens.files import explained, replacing

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from guidelens.studies.results import CellRecord, StudyResults

_SIDE, _GAP, _LABEL = 192, 8, 26
_MILLISECONDS, _LAST = 350, 1800


def animate(
    study: StudyResults,
    path: Path,
    *,
    prompt: str = "",
    schedules: Sequence[str] = (),
    seed: int | None = None,
) -> None:
    """Write an animation of the predicted x0 of each schedule, from the same noise. The last frame is shown longer.

    :param path: the file to write, with the suffix ``.webp`` or ``.gif``.
    :param prompt: the prompt to show; empty: the first one.
    :param schedules: the schedules to show; empty: all.
    :param seed: the seed of the pictures; None: the smallest.
    :raises UsageError: if the study kept no snapshots of such pictures.
    :raises GuidelensError: if a file cannot be read or written.
    """
    cells = [cell for cell in study.cells if cell["status"] == "done" and cell["perturbation"] == "none"]
    cells = [cell for cell in cells if prompt in ("", cell["prompt"]) and seed in (None, cell["seed"])]
    cells = [cell for cell in cells if not schedules or cell["schedule"] in schedules]
    chosen = _one_each(cells)
    strips = [(cell["schedule"], study.telemetry(cell["key"])) for cell in chosen]
    kept = [
        (name, told.snapshots)
        for name, told in strips
        if told.snapshots is not None and told.snapshot_steps is not None
    ]
    if not kept:
        raise UsageError(
            f"{study.directory} kept no steps to animate: run a study with `snapshots = 12`, or use "
            "`guidelens generate --trajectory`"
        )
    count = max(len(snapshots) for _, snapshots in kept)
    frames = [_frame(kept, i, str(chosen[0]["prompt"])) for i in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [_MILLISECONDS] * (count - 1) + [_LAST]
    with explained(f"cannot write {path}"), replacing(path) as temporary:
        frames[0].save(
            temporary,
            format=path.suffix.lstrip(".").upper(),
            save_all=True,
            append_images=frames[1:],
            duration=times,
            loop=0,
            **({"lossless": True} if path.suffix.lower() == ".webp" else {}),
        )


def _one_each(cells: Sequence[CellRecord]) -> list[CellRecord]:
    """Return one cell per schedule, all with one prompt, seed and number of steps: those with the most schedules."""
    groups: dict[tuple[str, int, int, float], dict[str, CellRecord]] = {}
    for cell in cells:
        place = (cell["prompt"], cell["seed"], cell["steps"], cell["scale"])
        groups.setdefault(place, {}).setdefault(cell["schedule"], cell)
    if not groups:
        raise UsageError("no finished picture has this prompt, seed and schedule")
    return list(max(groups.values(), key=len).values())


def _frame(strips: Sequence[tuple[str, np.ndarray]], number: int, prompt: str) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    from guidelens.pictures import from_levels
    from guidelens.report.grid import fit

    width = len(strips) * (_SIDE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, _SIDE + 2 * _LABEL + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((_GAP, 5), prompt, fill="black", font=font)
    for place, (name, snapshots) in enumerate(strips):
        left = _GAP + place * (_SIDE + _GAP)
        draw.text((left, _LABEL + 3), name, fill="black", font=font)
        sheet.paste(fit(from_levels(snapshots[min(number, len(snapshots) - 1)]), _SIDE), (left, 2 * _LABEL))
    return sheet
