"""The pictures of caption pairs, from the prompt set itself or from files in a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import Prompt
from ..errors import GuidelensError, UsageError
from ..guarding import call
from ..pictures import as_rgb, open_picture, to_tensor

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

LONGEST_SIDE = 1024
"""Larger pictures are reduced to this, in pixels. Vision-language models read fewer, and gradients take memory."""

_PART = re.compile(r"(?P<name>.+)#xywh=(?P<x>\d+),(?P<y>\d+),(?P<w>\d+),(?P<h>\d+)")


def picture_source(prompts: Any, folder: Path | None) -> Callable[[Prompt], Tensor]:
    """Return a function that opens the picture of a pair, (3, H, W) in [-1, 1].

    :param prompts: the prompt set. Its ``picture_of(prompt)``, if it has one, is used without a folder.
    :param folder: the folder of the files that ``Prompt.picture`` names. ``NAME#xywh=X,Y,W,H`` is a part of a picture,
        in pixels.
    :raises UsageError: if the set has no pictures of its own and no folder is given.
    """
    if folder is not None:
        return lambda prompt: _from_file(prompt, folder)
    if hasattr(prompts, "picture_of"):
        return lambda prompt: call(prompts, "prompt set", "picture_of", prompt)
    raise UsageError(
        "the prompt set has no pictures of its own: give their folder with --images", setting="images"
    )


def _from_file(prompt: Prompt, folder: Path) -> Tensor:
    """Return the picture of a pair.

    :raises UsageError: if the pair names no picture.
    :raises GuidelensError: if the picture cannot be read, or the part is not within it.
    """
    if not prompt.picture:
        raise UsageError(f"{prompt.text!r} names no picture: the prompts need a column picture")
    part = _PART.fullmatch(prompt.picture)
    path = folder / (part["name"] if part else prompt.picture)
    try:
        picture = as_rgb(open_picture(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise GuidelensError(f"cannot read the picture {path}: {error}") from None
    if part:
        x, y, w, h = (int(part[name]) for name in "xywh")
        if not (w and h and x + w <= picture.width and y + h <= picture.height):
            raise GuidelensError(
                f"{path} has {picture.width}x{picture.height} pixels; {prompt.picture} is outside"
            )
        picture = picture.crop((x, y, x + w, y + h))
    return to_tensor(_reduced(picture))


def _reduced(picture: Image) -> Image:
    """Return a picture whose longer side has at most :data:`LONGEST_SIDE` pixels."""
    from PIL import Image as images

    factor = LONGEST_SIDE / max(picture.size)
    if factor >= 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, images.Resampling.LANCZOS)
