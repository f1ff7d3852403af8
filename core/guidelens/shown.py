"""Display of results: pictures in a row, PNG and HTML for notebooks, data frames."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from .errors import GuidelensError
from .files import write_file
from .pictures import png_bytes

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

_LEAST_SIDE = 128
"""Small pictures are enlarged by an integer factor to at least this number of pixels."""

_GAP = 4


def row_of(pictures: Sequence[Image]) -> Image:
    """Return pictures side by side. Small pictures are enlarged without smoothing."""
    from PIL import Image as images

    shown = [enlarged(picture) for picture in pictures]
    width = sum(picture.width for picture in shown) + _GAP * (len(shown) - 1)
    sheet = images.new("RGB", (width, max(picture.height for picture in shown)), "white")
    left = 0
    for picture in shown:
        sheet.paste(picture, (left, 0))
        left += picture.width + _GAP
    return sheet


def column_of(pictures: Sequence[Image]) -> Image:
    """Return pictures under each other, at their own size."""
    from PIL import Image as images

    height = sum(picture.height for picture in pictures) + _GAP * (len(pictures) - 1)
    sheet = images.new("RGB", (max(picture.width for picture in pictures), height), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + _GAP
    return sheet


def enlarged(picture: Image) -> Image:
    """Return a picture enlarged by an integer factor to at least :data:`_LEAST_SIDE` pixels."""
    from PIL import Image as images

    factor = max(1, -(-_LEAST_SIDE // max(picture.size)))
    return picture.convert("RGB").resize(
        (picture.width * factor, picture.height * factor), images.Resampling.NEAREST
    )


def save_picture(picture: Image, path: str | Path) -> Path:
    """Write a picture as PNG, pixel for pixel.

    :raises GuidelensError: if the name does not end in .png, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise GuidelensError(f"{target}: the file name must end in .png")
    write_file(target, png_bytes(picture))
    return target


def html_of(picture: bytes | None, title: str, facts: Mapping[str, str]) -> str:
    """Return a PNG with a title and a table of facts, as HTML for a notebook."""
    image = ""
    if picture is not None:
        source = base64.b64encode(picture).decode()
        image = f'<img src="data:image/png;base64,{source}" alt="{escape(title)}">'
    lines = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<div><p><b>{escape(title)}</b></p>{image}<table>{lines}</table></div>"


def data_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a data frame.

    :raises GuidelensError: if pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise GuidelensError("a data frame needs pandas: run `pip install pandas`") from None
    return pd.DataFrame([dict(row) for row in rows])
