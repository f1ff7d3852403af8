"""Facts from the boxes of a detector: objects, counts, left, right, above and below, and colours by pixels.

The rules are those of Ghosh, Hajishirzi and Schmidt (2023), *GenEval: An Object-Focused Framework for Evaluating
Text-to-Image Alignment*, section 3. One rule differs: colours come from the pixels of the box, not from a classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guidelens.contracts import Fact

if TYPE_CHECKING:
    from torch import Tensor

SPATIAL = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "on top of": (0, -1),
    "below": (0, 1),
}
"""Relations that boxes decide -> the direction from the object to the subject, x to the right and y down."""

APART = 0.1
"""Smallest distance of two centres for a direction to count, as a share of the two boxes' sizes."""

COLOURS = ("black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
SAME_COLOUR = {"grey": "gray", "violet": "purple", "golden": "yellow", "gold": "yellow", "silver": "gray"}

LEAST_SHARE = 0.25
"""Smallest share of a box's middle that a colour must cover."""
LEAST_SHARE_SHOWN = 0.02
"""Smallest share of the picture that a colour must cover to appear in it."""


@dataclass(frozen=True)
class Box:
    """The position of an object in pixels: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the middle."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def can_check(fact: Fact) -> bool:
    """Return whether boxes and pixels decide a fact."""
    if fact.kind == "attribute":
        return colour_of(fact.value) is not None
    if fact.kind == "relation":
        return fact.value in SPATIAL
    return fact.kind in ("object", "count")


def holds(fact: Fact, boxes: Mapping[str, Sequence[Box]], image: Tensor) -> bool:
    """Return whether a fact holds, ignoring the facts that it needs.

    :param boxes: the boxes of each noun that the facts name.
    :param image: (3, H, W) in [-1, 1].
    """
    found = boxes[fact.subject]
    if fact.kind == "count":
        return len(found) == fact.number
    if fact.kind == "attribute":
        wanted = colour_of(fact.value) or ""
        return any(colour_shares(image, box)[wanted] >= LEAST_SHARE for box in found)
    if fact.kind == "relation":
        pairs = ((one, other) for one in found for other in boxes[fact.object] if one != other)
        return any(_is_towards(one, other, SPATIAL[fact.value]) for one, other in pairs)
    return bool(found)


def _is_towards(one: Box, other: Box, direction: tuple[int, int]) -> bool:
    """Return whether one box is in a direction from another, that is, the larger component of their distance points
    there."""
    (x1, y1), (x2, y2) = one.centre, other.centre
    widths = one.right - one.left + other.right - other.left
    heights = one.bottom - one.top + other.bottom - other.top
    dx, dy = _beyond(x1 - x2, APART * widths), _beyond(y1 - y2, APART * heights)
    length = (dx**2 + dy**2) ** 0.5
    return length > 0 and (dx * direction[0] + dy * direction[1]) / length > 0.5


def _beyond(distance: float, tolerance: float) -> float:
    return max(abs(distance) - tolerance, 0.0) * (1 if distance > 0 else -1)


def colour_of(word: str) -> str | None:
    """Return the colour of :data:`COLOURS` that a word names, or None if it does not name a colour."""
    name = SAME_COLOUR.get(word, word)
    return name if name in COLOURS else None


def colour_shares(image: Tensor, box: Box | None = None) -> dict[str, float]:
    """Return each colour's share of the pixels of a picture, or of the middle half of a box in width and height."""
    import torch

    if box is not None:
        height, width = image.shape[1:]
        x, y = box.centre
        half_x, half_y = max((box.right - box.left) / 4, 0.5), max((box.bottom - box.top) / 4, 0.5)
        rows = slice(_within(y - half_y, height - 1), _within(y + half_y, height - 1) + 1)
        columns = slice(_within(x - half_x, width - 1), _within(x + half_x, width - 1) + 1)
        image = image[:, rows, columns]
    names = colour_indices(image)
    counts = torch.bincount(names.flatten(), minlength=len(COLOURS)).double()
    return dict(zip(COLOURS, (counts / counts.sum()).tolist(), strict=True))


def _within(value: float, most: int) -> int:
    return min(max(int(value), 0), most)


def colour_indices(image: Tensor) -> Tensor:
    """Return the position in :data:`COLOURS` of each pixel of an image (3, H, W) in [-1, 1], by hue and lightness."""
    import torch

    red, green, blue = ((image.float() + 1) / 2).clamp(0, 1).unbind(0)
    most, least = (
        torch.maximum(red, torch.maximum(green, blue)),
        torch.minimum(red, torch.minimum(green, blue)),
    )
    chroma = most - least
    safe = chroma.clamp_min(1e-6)
    sector = torch.where(
        most == red,
        ((green - blue) / safe) % 6,
        torch.where(most == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue, saturation = 60 * sector, chroma / most.clamp_min(1e-6)
    edges = torch.tensor([15.0, 43.0, 70.0, 165.0, 255.0, 290.0, 345.0])
    bands = torch.tensor([COLOURS.index(c) for c in _AROUND_THE_WHEEL])
    named = bands[torch.bucketize(hue.cpu(), edges)].to(image.device)

    def put(name: str, where: Tensor) -> None:
        named[where] = COLOURS.index(name)

    warm = (hue < 43) | (hue >= 345)
    put("pink", ((hue < 15) | (hue >= 345)) & (saturation < 0.55) & (most > 0.7))
    put("brown", warm & (most < 0.65) & (hue >= 10) & (hue < 43))
    put("gray", saturation < 0.18)
    put("white", (saturation < 0.15) & (most > 0.85))
    put("black", most < 0.2)
    return named


_AROUND_THE_WHEEL = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "red")
