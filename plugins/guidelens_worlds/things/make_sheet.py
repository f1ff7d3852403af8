"""Draw the sprite sheet of the things world from the font Noto Color Emoji.

``python -m guidelens_worlds.things.make_sheet FONT`` writes it into the package.

The sheet is a column of square cells, one per thing, in the order of the vocabulary. Each cell has a centred thing
whose longer side is :data:`CELL` pixels. ``sprites.json`` names the things. Using the world needs neither the script
nor the font.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .sprites import CELL, INDEX, SHEET
from .vocabulary import THINGS

_FONT_SIZE = 109  # the only size of the font's bitmaps


def draw_emoji(font: ImageFont.FreeTypeFont, emoji: str) -> Image.Image:
    """Return the artwork of one character, cropped to its visible part and scaled to fit a cell."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), emoji, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise SystemExit(f"the font has no artwork for U+{ord(emoji):04X}")
    cropped = canvas.crop(box)
    scale = CELL / max(cropped.size)
    width, height = (max(1, round(side * scale)) for side in cropped.size)
    return cropped.resize((width, height), Image.Resampling.LANCZOS)


def main(font_file: str) -> None:
    """Write the sheet and its index into the package."""
    font = ImageFont.truetype(font_file, _FONT_SIZE)
    sheet = Image.new("RGBA", (CELL, CELL * len(THINGS)))
    index = {}
    for row, (name, thing) in enumerate(THINGS.items()):
        art = draw_emoji(font, thing.emoji)
        x, y = (CELL - art.width) // 2, row * CELL + (CELL - art.height) // 2
        sheet.paste(art, (x, y))
        index[name] = [x, y, art.width, art.height]
    sheet.save(SHEET, optimize=True)
    INDEX.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).as_posix())
