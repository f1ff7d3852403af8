"""Sprites by thing and colour, scaled to any size, as alpha and colour arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .vocabulary import COLOURS, NATURAL, THINGS, Paint

Array = NDArray[np.float32]

CELL = 64
"""Longer side of a thing on the sheet, in pixels."""
_FOLDER = Path(__file__).parent / "artwork"
SHEET = _FOLDER / "sprites.png"
INDEX = _FOLDER / "sprites.json"
"""Name -> [x, y, width, height] on the sheet."""


@dataclass(frozen=True, eq=False)
class Sprite:
    """A thing at one size: ``colour`` (3, h, w) in [-1, 1] times ``alpha``, and ``alpha`` (h, w) in [0, 1]."""

    premultiplied: Array
    alpha: Array

    @property
    def height(self) -> int:
        """In pixels."""
        return self.alpha.shape[0]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.alpha.shape[1]


@cache
def sprite(name: str, colour: str, size: int) -> Sprite:
    """Return a thing in a colour. Its longer side has ``size`` pixels.

    :raises KeyError: the thing or its colour is unknown.
    """
    art = _painted(name, colour)
    scale = size / max(art.size)
    width, height = (max(1, round(side * scale)) for side in art.size)
    pixels = np.asarray(art.resize((width, height), Image.Resampling.BOX), dtype=np.float32)
    alpha = np.asarray(pixels[..., 3] / 255, dtype=np.float32)
    rgb = (pixels[..., :3] / 127.5 - 1).transpose(2, 0, 1)
    return Sprite(np.ascontiguousarray(rgb * alpha, dtype=np.float32), alpha)


@cache
def _sheet() -> tuple[Image.Image, dict[str, list[int]]]:
    with Image.open(SHEET) as image:
        return image.convert("RGBA"), json.loads(INDEX.read_text(encoding="utf-8"))


@cache
def _painted(name: str, colour: str) -> Image.Image:
    sheet, index = _sheet()
    x, y, width, height = index[name]
    art = sheet.crop((x, y, x + width, y + height))
    paint = THINGS[name].paint
    if colour == NATURAL or paint is None:
        return art
    return _repaint(art, paint, COLOURS[colour])


def _repaint(art: Image.Image, paint: Paint, target: tuple[int, int, int]) -> Image.Image:
    """Give the pixels that ``paint`` selects a new colour, and keep their brightness relative to the median.

    Let l be the brightness of a pixel divided by the median brightness. The new colour is l * target for l <= 1. Above
    1, it approaches white as l approaches its maximum.
    """
    pixels = np.asarray(art, dtype=np.float32)
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    chosen = _selected(art, paint) & (alpha > 0)
    light = rgb @ np.array([0.30, 0.59, 0.11], dtype=np.float32)
    middle = float(np.median(light[chosen & (alpha > 128)]))
    level = (light / middle)[..., None]
    colour = np.asarray(target, dtype=np.float32)
    towards_white = np.clip((level - 1) / max(255 / middle - 1, 1e-3), 0, 1)
    new = np.where(level <= 1, level * colour, colour + 0.7 * towards_white * (255 - colour))
    painted = np.where(chosen[..., None], new, rgb)
    return Image.fromarray(
        np.concatenate([painted, alpha[..., None]], -1).round().clip(0, 255).astype(np.uint8)
    )


def _selected(art: Image.Image, paint: Paint) -> NDArray[np.bool_]:
    hsv = np.asarray(art.convert("RGB").convert("HSV"), dtype=np.float32)
    hue, saturation, value = hsv[..., 0] * 360 / 256, hsv[..., 1] / 255, hsv[..., 2] / 255
    bright = value >= paint.value
    if paint.hue is None:
        pink = (saturation > 0.45) & ((hue < 12) | (hue > 320))  # a tongue keeps its colour
        return bright & ~pink
    away = np.abs((hue - paint.hue + 180) % 360 - 180)
    return bright & (away <= paint.reach) & (saturation >= paint.saturation)
