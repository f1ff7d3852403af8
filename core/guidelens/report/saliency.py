"""Where each objective pulled: maps of |dL_k/dx0| as heat over the picture that was pulled at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from guidelens.errors import GuidelensError
from guidelens.files import write_file
from guidelens.pictures import from_levels, png_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from PIL.Image import Image

    from guidelens.runs.telemetry import Telemetry

SUFFIX = "-saliency.png"
"""Of the file beside a cell's strip of predictions; see :func:`guidelens.report.study_cells.write_strips`."""

HEAT = (
    *("04153a", "14185e", "3d1372", "620b75", "7f0d72", "991370", "b4186c", "cd2166", "e2335e"),
    *("f04c57", "f76752", "fa8254", "fb9a5b", "fcb165", "fec66f", "fedb7b", "ffef7d"),
)
"""Colours of the levels 0 to 255, evenly spaced, sRGB: CIELAB lightness rises from 8 to 94 in equal steps while
the hue turns from blue over red to yellow, so that equal differences look equal, in grey as well.
"""

SMALLEST_SIDE = 128
"""Of one picture in :func:`labelled_strip`."""

_GREY = (0.10, 0.55)
"""What black and white become underneath, so that the picture can be told and no heat be mistaken for it."""
_OPAQUE = 0.6
"""The share of a map's peak from which on its colour covers the picture."""
_GAP, _MARGIN, _FONT_SIZE = 4, 12, 15


def heat_colours(levels: np.ndarray) -> np.ndarray:
    """Return the colour of each level 0 to 255, (..., 3) float in [0, 1]."""
    import numpy as np

    table = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in HEAT]) / 255
    places = np.linspace(0, 255, len(table))
    return np.stack([np.interp(levels, places, channel) for channel in table.T], axis=-1)


def saliency_image(picture: np.ndarray, saliency: np.ndarray, *, side: int = 0) -> Image:
    """Lay a map as heat over the picture in grey: the stronger, the brighter and the more it covers.

    :param picture: (H, W, C) uint8, C = 1 or 3.
    :param saliency: (h, w) uint8; enlarged or reduced to the picture's size where it differs, by nearest.
    :param side: enlarge the result, by nearest and a whole factor, until its longer side has this many pixels.
    :raises ValueError: for other shapes.
    """
    import numpy as np
    from PIL import Image

    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or saliency.ndim != 2:
        raise ValueError(
            f"expected a picture (H, W, 1 or 3) and a map (h, w), got {picture.shape} and {saliency.shape}"
        )
    height, width = picture.shape[:2]
    levels = Image.fromarray(np.ascontiguousarray(saliency, dtype=np.uint8))
    if levels.size != (width, height):
        levels = levels.resize((width, height), Image.Resampling.NEAREST)
    share = np.asarray(levels)
    luminance = np.array([0.2126, 0.7152, 0.0722]) if picture.shape[2] == 3 else np.ones(1)
    low, high = _GREY
    grey = low + (high - low) * (picture / 255 @ luminance)[..., None]
    cover = np.minimum(share / (255 * _OPAQUE), 1)[..., None]
    mixed = (1 - cover) * grey + cover * heat_colours(share)
    result = Image.fromarray((mixed * 255).round().astype(np.uint8))
    factor = max(1, -(-side // max(result.size)))
    return result.resize((width * factor, height * factor), Image.Resampling.NEAREST)


def heat_layer(saliency: np.ndarray) -> Image:
    """Return a map (h, w) uint8 as a picture with transparency, to be laid over a grey one in a browser."""
    import numpy as np
    from PIL import Image

    colours = (heat_colours(saliency) * 255).round()
    cover = np.minimum(saliency / (255 * _OPAQUE), 1)[..., None] * 255
    return Image.fromarray(np.concatenate([colours, cover.round()], -1).astype(np.uint8))


def saliency_strip(steps: Telemetry) -> Image | None:
    """Return a sheet of maps: objectives down, in the order of ``steps.saliency``, snapshot steps across.

    No gaps and no labels, like a strip of predictions. Where an objective was inactive there is the grey
    picture. None where no maps were kept.
    """
    import numpy as np
    from PIL import Image

    if steps.snapshots is None or not steps.saliency:
        return None
    rows = [
        np.concatenate(
            [np.asarray(saliency_image(*pair)) for pair in zip(steps.snapshots, maps, strict=True)], 1
        )
        for maps in steps.saliency.values()
    ]
    return Image.fromarray(np.concatenate(rows, 0))


def labelled_strip(steps: Telemetry) -> Image:
    """Return the predictions of x0 and, under them, the maps of each objective, with names and steps.

    :raises GuidelensError: where no maps were kept.
    """
    from PIL import Image, ImageDraw, ImageFont

    if steps.snapshots is None or steps.snapshot_steps is None or not steps.saliency:
        raise GuidelensError("there are no saliency maps: nothing guided the steps that were kept")
    font = ImageFont.load_default(_FONT_SIZE)
    rows = {"x0": [_enlarged(frame) for frame in steps.snapshots]}
    for name, maps in steps.saliency.items():
        pairs = zip(steps.snapshots, maps, strict=True)
        rows[name] = [saliency_image(frame, levels, side=SMALLEST_SIDE) for frame, levels in pairs]
    width, height = rows["x0"][0].size
    left = 2 * _MARGIN + round(max(font.getlength(name) for name in rows))
    top = 2 * _MARGIN + _FONT_SIZE
    across, down = width + _GAP, height + _GAP
    size = (left + len(steps.snapshots) * across - _GAP + _MARGIN, top + len(rows) * down - _GAP + _MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, step in enumerate(steps.snapshot_steps.tolist()):
        draw.text((left + column * across, _MARGIN), f"step {step + 1}", fill="black", font=font)
    for row, (name, pictures) in enumerate(rows.items()):
        draw.text((_MARGIN, top + row * down + height // 2), name, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (left + column * across, top + row * down))
    return sheet


def _enlarged(frame: np.ndarray) -> Image:
    from PIL import Image

    picture = from_levels(frame)
    factor = max(1, -(-SMALLEST_SIDE // max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def write_saliency(directory: Path, telemetry: Mapping[str, Telemetry]) -> None:
    """Write the saliency maps that were kept of each cell, as ``trajectories/KEY-saliency.png``.

    See :func:`saliency_strip`. A file that is there stays: it belongs to the cell's key.
    """
    from guidelens.report.study_cells import STRIPS

    for key, steps in telemetry.items():
        path = directory / STRIPS / f"{key}{SUFFIX}"
        if path.exists():
            continue
        strip = saliency_strip(steps)
        if strip is not None:
            path.parent.mkdir(exist_ok=True)
            write_file(path, png_bytes(strip))
