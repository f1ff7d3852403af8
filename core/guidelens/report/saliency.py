"""Saliency maps: |dL_k/dx0| of each objective as heat over the picture."""

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
"""Suffix of the file with saliency maps; see :func:`guidelens.report.study_cells.write_strips`."""

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
"""Gray levels of black and white under a map, so that the picture is visible but differs from heat."""
_OPAQUE = 0.6
"""Above this share of a map's peak, its colour covers the picture."""
_GAP, _MARGIN, _FONT_SIZE = 4, 12, 15


def heat_colours(levels: np.ndarray) -> np.ndarray:
    """Return the colour of each level from 0 to 255, (..., 3) float in [0, 1]."""
    import numpy as np

    table = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in HEAT]) / 255
    places = np.linspace(0, 255, len(table))
    return np.stack([np.interp(levels, places, channel) for channel in table.T], axis=-1)


def saliency_image(picture: np.ndarray, saliency: np.ndarray, *, side: int = 0) -> Image:
    """Draw a map as heat over the picture in gray. Stronger values are brighter and cover more of the picture.

    :param picture: (H, W, C) uint8, C = 1 or 3.
    :param saliency: (h, w) uint8, resized to the picture's size (nearest neighbour).
    :param side: enlarge the result by a whole factor (nearest neighbour) to at least this longer side in pixels.
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
    """Return a map (h, w) uint8 as a picture with transparency, for display over a gray picture in a browser."""
    import numpy as np
    from PIL import Image

    colours = (heat_colours(saliency) * 255).round()
    cover = np.minimum(saliency / (255 * _OPAQUE), 1)[..., None] * 255
    return Image.fromarray(np.concatenate([colours, cover.round()], -1).astype(np.uint8))


def saliency_strip(steps: Telemetry) -> Image | None:
    """Return a sheet of maps: objectives down, in the order of ``steps.saliency``, snapshot steps across.

    It has no gaps and no labels, like a strip of predictions. For an inactive objective it shows the gray picture.
    Without stored maps the result is None.
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
    """Return the predictions of x0 with the maps of each objective below them, with names and steps.

    :raises GuidelensError: if no map was stored.
    """
    from PIL import Image, ImageDraw, ImageFont

    if steps.snapshots is None or steps.snapshot_steps is None or not steps.saliency:
        raise GuidelensError("there are no saliency maps: no objective was active at the stored steps")
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
    """Write the stored saliency maps of each cell as ``trajectories/KEY-saliency.png``. See :func:`saliency_strip`.
    Existing files are kept, because their name is the cell's key.
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
