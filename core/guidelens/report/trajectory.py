"""Encode an animation of the predicted x0 over the steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".webp": "WEBP", ".gif": "GIF"}
SECONDS, HOLD_MS, SMALLEST_SIDE = 4.0, 1500, 256


def animation_format(path: Path) -> str:
    """Return the format for a path's suffix.

    :raises UsageError: the suffix is neither .webp nor .gif.
    """
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"a trajectory must be a .webp or .gif file, not {path.name!r}") from None


def encode_trajectory(
    frames: Sequence[Image], kind: str, *, side: int = SMALLEST_SIDE, quick: bool = False
) -> bytes:
    """Return an endless animation of about four seconds that pauses on the last frame. Small pictures are enlarged.

    :param kind: ``WEBP`` (lossless) or ``GIF``.
    :param side: smallest longer side of the result in pixels.
    :param quick: encode WebP faster, with somewhat larger files.
    :raises ValueError: if ``frames`` is empty.
    """
    from PIL import Image

    if not frames:
        raise ValueError("no frames")
    factor = max(1, -(-side // max(frames[0].size)))
    size = (frames[0].width * factor, frames[0].height * factor)
    enlarged = [frame.convert("RGB").resize(size, Image.Resampling.NEAREST) for frame in frames]
    # 20 ms is the shortest delay that browsers honour in a GIF.
    delay = max(20, round(SECONDS * 1000 / len(frames)))
    durations = [delay] * (len(frames) - 1) + [HOLD_MS]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    if kind == "WEBP" and quick:
        options |= {"method": 0, "quality": 0}
    buffer = io.BytesIO()
    enlarged[0].save(
        buffer, format=kind, save_all=True, append_images=enlarged[1:], duration=durations, loop=0, **options
    )
    return buffer.getvalue()
