"""Draw grid.png: a row per prompt, a column per schedule, with the pictures of the first seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

MAX_SEEDS = 4
MARGIN, GAP, INNER = 20, 14, 4
LABEL_WIDTH, FONT_SIZE = 200, 16
PAPER, INK, FAINT = (255, 255, 255), (28, 28, 30), (235, 235, 238)


def draw_grid(rows: Sequence[Mapping[str, Any]], load: Callable[[str], Image]) -> Image:
    """Draw the pictures of result rows in their order. ``load`` returns the picture of a key. A field shows at most
    the first four seeds (a single picture, or two by two). Small pictures are enlarged without smoothing.

    :raises ValueError: if ``rows`` is empty.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not rows:
        raise ValueError("no pictures to draw")
    prompts = list(dict.fromkeys((r["prompt"], r.get("reference") or "") for r in rows))
    schedules = list(dict.fromkeys(r["schedule"] for r in rows))
    seeds = sorted({r["seed"] for r in rows})[:MAX_SEEDS]
    keys = {(r["prompt"], r.get("reference") or "", r["schedule"], r["seed"]): r["key"] for r in rows}
    side = _picture_side(len(prompts), len(seeds))
    across = 1 if len(seeds) == 1 else 2
    cell_width = across * side + (across - 1) * INNER
    cell_height = -(-len(seeds) // across) * (side + INNER) - INNER
    font = ImageFont.load_default(FONT_SIZE)
    header = max(_text_height(wrap(name, font, cell_width)) for name in schedules)
    labels = [wrap(text, font, LABEL_WIDTH) for text, _ in prompts]
    heights = [max(cell_height, _text_height(label)) for label in labels]
    width = 2 * MARGIN + LABEL_WIDTH + len(schedules) * (GAP + cell_width)
    sheet = Image.new("RGB", (width, 2 * MARGIN + header + sum(GAP + h for h in heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [MARGIN + LABEL_WIDTH + GAP + i * (GAP + cell_width) for i in range(len(schedules))]
    for left, name in zip(lefts, schedules, strict=True):
        _write(draw, (left, MARGIN), wrap(name, font, cell_width), font)
    top = MARGIN + header + GAP
    for prompt, label, height in zip(prompts, labels, heights, strict=True):
        _write(draw, (MARGIN, top), label, font)
        for left, name in zip(lefts, schedules, strict=True):
            for i, seed in enumerate(seeds):
                corner = (left + (i % across) * (side + INNER), top + (i // across) * (side + INNER))
                key = keys.get((*prompt, name, seed))
                if key is None:
                    draw.rectangle((*corner, corner[0] + side - 1, corner[1] + side - 1), fill=FAINT)
                else:
                    sheet.paste(fit(load(key), side), corner)
        top += height + GAP
    return sheet


def fit(image: Image, side: int) -> Image:
    """Scale a picture into a square. Enlarging repeats whole pixels, reducing is smooth."""
    from PIL import Image

    longest = max(image.size)
    target = [max(1, round(n * side / longest)) for n in image.size]
    method = Image.Resampling.NEAREST if longest <= side else Image.Resampling.LANCZOS
    scaled = image.convert("RGB").resize((target[0], target[1]), method)
    if scaled.size == (side, side):
        return scaled
    square = Image.new("RGB", (side, side), PAPER)
    square.paste(scaled, ((side - target[0]) // 2, (side - target[1]) // 2))
    return square


def wrap(text: str, font: Font, width: float) -> list[str]:
    """Break text into lines of at most ``width`` pixels, at spaces if possible, else inside words."""
    lines, line = [], ""
    for word in text.split():
        if line and font.getlength(f"{line} {word}") > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
        while font.getlength(line) > width and len(line) > 1:
            cut = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or font.getlength(line[:n]) <= width)
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line] if line else lines or [""]


def _picture_side(prompts: int, seeds: int) -> int:
    """Return the side of a picture, a multiple of 32. It is smaller for larger grids."""
    if seeds == 1:
        return 192 if prompts <= 12 else 128
    return 128 if prompts <= 12 else 96 if prompts <= 60 else 64


def _text_height(lines: Sequence[str]) -> int:
    return round(len(lines) * FONT_SIZE * 1.3)


def _write(draw: ImageDraw, corner: tuple[int, int], lines: Sequence[str], font: Font) -> None:
    for i, line in enumerate(lines):
        draw.text((corner[0], corner[1] + round(i * FONT_SIZE * 1.3)), line, fill=INK, font=font)
